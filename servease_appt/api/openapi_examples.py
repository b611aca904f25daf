"""Examples for the OpenAPI document. The requests work in `make demo`, whose people they name."""

from typing import Any, Final

from marshmallow import Schema

from servease_appt.api.schemas import appointment_requests, operations, time_slots

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
    "id": "5f0c7a52-0b1d-4c57-9c7a-2f6f0a3c1d11",
    "appointment_id": "5f0c7a52-0b1d-4c57-9c7a-2f6f0a3c1d11",
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
    "message": "The appointment is confirmed.",
    "detail": "Not found.",
}
"""The value of a field of an answer, by its name."""
