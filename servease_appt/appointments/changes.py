"""What the actions and the edits have in common: may this appointment change so, and to what columns?"""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from servease_appt.appointments import checks
from servease_appt.appointments.errors import RuleBroken
from servease_appt.appointments.records import Appointment
from servease_appt.scheduling.intervals import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Interval
from servease_appt.scheduling.statuses import RESCHEDULABLE, Action, transition_error

_STAMPED = {Action.COMPLETE: "completed_at", Action.CANCEL: "cancelled_at"}


def status_changed(
    connection: Connection, appointment: Appointment, action: Action, moment: datetime
) -> dict[str, Any]:
    """The columns after the action. For CONFIRM the assigned employee's lock must be held.

    Raises:
        RuleBroken: the status does not allow it, or the employee is busy.
    """
    if (reason := transition_error(appointment.status, action)) is not None:
        raise RuleBroken([reason])
    if action is Action.CONFIRM and appointment.assigned_employee_id is not None:
        broken = checks.employee_conflicts(
            connection, appointment.assigned_employee_id, occupied(appointment), appointment.id
        )
        if broken:
            raise RuleBroken(broken)
    values: dict[str, Any] = {"status": action.leads_to.value, "updated_at": moment}
    if action in _STAMPED:
        values[_STAMPED[action]] = moment
    return values


def moved(before: Appointment, wanted: Appointment) -> checks.BookingRequest:
    """What has to be checked before the appointment may have another time or another length.

    Raises:
        RuleBroken: it is not pending or confirmed, or (an old row) has a length that nobody could book.
    """
    if before.status not in RESCHEDULABLE:
        raise RuleBroken(
            [
                f'Cannot change time or length: the appointment is "{before.status}";'
                f" allowed while it is {' or '.join(sorted(RESCHEDULABLE, reverse=True))}."
            ]
        )
    if not MIN_DURATION_MINUTES <= wanted.duration_minutes <= MAX_DURATION_MINUTES:
        raise RuleBroken(
            [
                f"Cannot be moved: it has a length of {wanted.duration_minutes} minutes, allowed are"
                f" {MIN_DURATION_MINUTES} to {MAX_DURATION_MINUTES}. Change duration_minutes first."
            ]
        )
    return checks.BookingRequest(
        occupied(wanted), wanted.customer_id, wanted.assigned_employee_id, appointment_id=before.id
    )


def occupied(appointment: Appointment) -> Interval:
    """The time that it takes up."""
    return Interval.of(appointment.scheduled_date, appointment.scheduled_time, appointment.duration_minutes)
