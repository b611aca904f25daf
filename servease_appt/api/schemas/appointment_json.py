"""Appointments as clients see them. Plain dictionaries for orjson: a warm page must cost next to nothing."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from servease_appt.appointments.records import Appointment, AppointmentRow
from servease_appt.references.enrichment import PageNames


def row_json(row: AppointmentRow | Appointment, names: PageNames) -> dict[str, object]:
    """Return one row of a list."""
    return {
        "id": row.id,
        "customer_id": row.customer_id,
        "vehicle_id": row.vehicle_id,
        "assigned_employee_id": row.assigned_employee_id,
        "appointment_type": row.appointment_type,
        "scheduled_date": row.scheduled_date,
        "scheduled_time": row.scheduled_time,
        "status": row.status,
        "customer_name": names.customers[row.customer_id],
        "vehicle_details": names.vehicles[row.vehicle_id],
        "employee_name": names.employees[row.assigned_employee_id],
    }


def detail_json(
    appointment: Appointment, names: PageNames, *, for_staff: bool, now: datetime, timezone: ZoneInfo
) -> dict[str, object]:
    """Return the detail. `internal_notes` is not even there for customers."""
    cost = appointment.estimated_cost
    detail = row_json(appointment, names)
    detail |= {
        "scheduled_time": appointment.scheduled_time.replace(microsecond=0),
        "duration_minutes": appointment.duration_minutes,
        "service_description": appointment.service_description,
        "customer_notes": appointment.customer_notes,
        "estimated_cost": None if cost is None else f"{cost:.2f}",
        "duration_seconds": appointment.duration_seconds,
        "duration": clock_text(appointment.duration_seconds),
        "time_until_appointment": time_until(_start(appointment, timezone) - now),
        "created_by_user_id": appointment.created_by_user_id,
        "created_at": appointment.created_at,
        "updated_at": appointment.updated_at,
        "cancelled_at": appointment.cancelled_at,
        "completed_at": appointment.completed_at,
    }
    if for_staff:
        detail["internal_notes"] = appointment.internal_notes
    return detail


def _start(appointment: Appointment, timezone: ZoneInfo) -> datetime:
    return datetime.combine(appointment.scheduled_date, appointment.scheduled_time, tzinfo=timezone)


def clock_text(seconds: int) -> str:
    """Return seconds as `HH:MM:SS`; more than 99 hours take more digits."""
    minutes, second = divmod(max(0, seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}"


def time_until(left: timedelta) -> str:
    """Return the time left in its largest whole unit: "3 days", "1 hour", "15 minutes", or "Past due"."""
    if left < timedelta(0):
        return "Past due"
    if left.days:
        return _counted(left.days, "day")
    hours, minutes = divmod(left.seconds // 60, 60)
    return _counted(hours, "hour") if hours else _counted(minutes, "minute")


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
