"""Examples for the OpenAPI document. The requests work in `make demo`: its sample data has the ids named here."""

from typing import Any, Final

from marshmallow import Schema, fields

import servease_appt
from servease_appt.api.schemas import (
    appointment_requests,
    appointments,
    changes,
    history,
    operations,
    reports,
    time_slots,
)

APPOINTMENT: Final = "5f0c7a52-0b1d-4c57-9c7a-2f6f0a3c1d11"
HISTORY_ROW: Final = "a1d9c0de-7f0e-4d0b-8f63-5b1f6d2c9e44"
SLOT: Final = "3c5f1d0a-9b7e-4c1f-8a2d-6e4b7c8d9f10"
CUSTOMER: Final = "c3b8ef82-4118-4675-bc9a-587401b1c3bd"
VEHICLE: Final = "9ffec325-9c12-46a4-b4fe-391b74dbc62a"
EMPLOYEE: Final = "9d6d9bf5-85d0-472c-9828-de50d0c91813"

BODIES: Final[dict[type[Schema], dict[str, Any]]] = {
    appointment_requests.AppointmentCreate: {
        "customer_id": CUSTOMER,
        "vehicle_id": VEHICLE,
        "appointment_type": "maintenance",
        "scheduled_date": "2030-05-06",
        "scheduled_time": "10:00:00",
        "duration_minutes": 60,
        "service_description": "Oil and filter change",
    },
    appointment_requests.AppointmentUpdate: {
        "service_description": "Oil and filter change",
        "customer_notes": "Please call before you start.",
    },
    appointment_requests.AppointmentPatch: {"customer_notes": "Please call before you start."},
    appointment_requests.Reason: {"reason": "Agreed on the phone."},
    appointment_requests.Reschedule: {
        "new_date": "2030-05-07",
        "new_time": "14:00:00",
        "reason": "Agreed on the phone.",
    },
    appointment_requests.Assign: {"employee_id": EMPLOYEE},
    time_slots.SlotCreate: {"date": "2030-05-06", "start_time": "09:00:00", "end_time": "10:00:00"},
    time_slots.SlotUpdate: {"date": "2030-05-06", "start_time": "09:00:00", "end_time": "11:00:00"},
    time_slots.SlotPatch: {"max_concurrent_appointments": 2},
    time_slots.SlotRange: {"start_date": "2030-05-06", "end_date": "2030-05-10"},
    operations.CacheInvalidation: {"entity": "customer", "ids": [CUSTOMER]},
}
"""The body of a request, by its schema."""

FIELDS: Final[dict[str, Any]] = {
    "id": APPOINTMENT,
    "appointment_id": APPOINTMENT,
    "customer_id": CUSTOMER,
    "vehicle_id": VEHICLE,
    "assigned_employee_id": EMPLOYEE,
    "created_by_user_id": CUSTOMER,
    "changed_by_user_id": EMPLOYEE,
    "customer_name": "Aisha Eriksen",
    "vehicle_details": "2019 Suzuki Vitara",
    "employee_name": "Priya Vasquez",
    "scheduled_date": "2030-05-06",
    "scheduled_time": "10:00:00",
    "date": "2030-05-06",
    "start_time": "09:00:00",
    "end_time": "10:00:00",
    "duration_minutes": 60,
    "duration_seconds": 3600,
    "duration": "01:00:00",
    "time_until_appointment": "3 days",
    "estimated_cost": "89.00",
    "service_description": "Oil and filter change",
    "customer_notes": "Please call before you start.",
    "internal_notes": "The filter is in stock.",
    "change_reason": "Agreed on the phone.",
    "changed_at": "2030-05-01T08:15:00Z",
    "created_at": "2030-05-01T08:15:00Z",
    "updated_at": "2030-05-01T08:15:00Z",
    "cancelled_at": None,
    "completed_at": None,
    "is_available": True,
    "max_concurrent_appointments": 3,
    "available_capacity": 2,
    "next": None,
    "previous": None,
}
"""The value of a field of an answer, by its name, where that does not depend on the schema."""

_TIERS: Final = {"l1": {"customer": {"hit": 1840, "miss": 61}}, "l2": {"customer": {"hit": 52, "miss": 9}}}
_ENDPOINTS: Final = {
    "appointments.list_appointments": {"l1": 1840, "l2": 52, "upstream": 9, "hit_rate": 0.995}
}
_APPOINTMENT: Final = {"appointment_type": "maintenance", "status": "confirmed"}
_PAGE: Final = {"count": 1}
_OWN_FIELDS: Final[dict[type[Schema], dict[str, Any]]] = {
    appointments.AppointmentSchema: _APPOINTMENT,
    appointments.AppointmentDetailSchema: _APPOINTMENT,
    appointments.AppointmentPageSchema: _PAGE,
    appointments.ActionSchema: {"status": "confirmed", "message": "The appointment is confirmed."},
    changes.ChangesSchema: {
        "next": "http://localhost:8005/api/v1/appointments/changes/?cursor=kcid4FavrYMllsRbWzE3XQ",
        "has_more": False,
    },
    changes.ChangeEventSchema: {
        "number": 17,
        "event": "rescheduled",
        "status": "confirmed",
        "occurred_at": "2030-05-01T08:15:00Z",
    },
    history.HistorySchema: {"id": HISTORY_ROW, "previous_status": "pending", "new_status": "confirmed"},
    history.HistoryPageSchema: _PAGE,
    reports.AvailableSlotsSchema: _PAGE,
    reports.StatsSchema: {
        "total_appointments": 2000,
        "pending": 160,
        "confirmed": 290,
        "in_progress": 5,
        "completed": 1290,
        "cancelled": 175,
        "no_show": 80,
        "today": 40,
        "completed_today": 21,
        "upcoming": 410,
        "by_type": {"maintenance": 1150, "repair": 850},
    },
    time_slots.TimeSlotSchema: {"id": SLOT},
    time_slots.TimeSlotPageSchema: _PAGE,
    time_slots.SlotsCreatedSchema: {"message": "Created 40 time slots", "count": 40},
    operations.InvalidatedSchema: {"invalidated": 1},
    operations.CacheStatsSchema: {"mode": "both"},
    operations.WorkerCacheSchema: {
        "id": "4711-9f2c",
        "l1_entries": 61,
        "l1_evictions": 0,
        "channel_confirmed": True,
        "tracking": True,
        "sequence": 128,
        "breakers": {"redis": "closed", "customer": "closed"},
        "tiers": _TIERS,
        "endpoints": _ENDPOINTS,
    },
    operations.AllWorkersCacheSchema: {
        "modes": {"both": 2},
        "breakers": {"redis": {"closed": 2}},
        "tiers": _TIERS,
        "endpoints": _ENDPOINTS,
        "times": {"redis": {"count": 61, "p50_ms": 0.3, "p95_ms": 0.6}},
    },
    operations.HealthSchema: {
        "status": "healthy",
        "service": "appointment-service",
        "version": servease_appt.__version__,
    },
    operations.ReadinessSchema: {
        "status": "ready",
        "checks": {"database": "ok", "redis": "ok", "cache_mode": "both"},
    },
}
"""Values of fields that mean something else in another schema."""

UNAVAILABLE: Final = {
    "status": "unavailable",
    "checks": {
        "database": "unavailable",
        "database_cause": "timeout: the server did not answer in time",
        "redis": "ok",
        "cache_mode": "both",
    },
}
"""The readiness that goes with a 503."""

PARAMETERS: Final[dict[str, Any]] = {
    "appointment_id": APPOINTMENT,
    "history_id": HISTORY_ROW,
    "slot_id": SLOT,
    "customer_id": CUSTOMER,
    "employee_id": EMPLOYEE,
    "vehicle_id": VEHICLE,
    "start_date": "2030-05-06",
    "end_date": "2030-05-10",
}
"""The value of a required parameter, by its name."""


def example_of(schema: Schema) -> Any:
    """Return an example of the answer that `schema` dumps. Raises KeyError for a field without a value here."""
    if isinstance(schema, operations.DocumentSchema):
        return {"openapi": "3.1.0", "info": {"title": "ServEase appointments"}, "paths": {}}
    own = _OWN_FIELDS.get(type(schema), {})
    example = {
        name: example_of(field.schema)
        if isinstance(field, fields.Nested)
        else own[name]
        if name in own
        else FIELDS[name]
        for name, field in schema.fields.items()
    }
    return [example] if schema.many else example
