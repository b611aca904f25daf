"""What answers look like, as JSON schemas for the OpenAPI document. The tests hold real answers against them."""

from typing import Any

from servease_appt.api.schemas.requests import STATUSES

Shape = dict[str, Any]

TEXT: Shape = {"type": "string"}
WHOLE: Shape = {"type": "integer"}
_ID: Shape = {"type": "string", "format": "uuid"}
_DAY: Shape = {"type": "string", "format": "date"}
_CLOCK: Shape = {"type": "string", "pattern": r"^\d\d:\d\d:\d\d$"}
_MOMENT: Shape = {"type": "string", "format": "date-time"}
# No enumerations: rows from before this service may hold other words, and are shown as they are.
_STATUS: Shape = {**TEXT, "example": "confirmed"}
_TYPE: Shape = {**TEXT, "example": "maintenance"}


def _or_null(shape: Shape) -> Shape:
    return {**shape, "nullable": True}


def record(optional: tuple[str, ...] = (), /, **properties: Shape) -> Shape:
    """Return the shape of an object with these properties, all there but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def array_of(shape: Shape) -> Shape:
    """Return the shape of an array."""
    return {"type": "array", "items": shape}


def page_of(shape: Shape) -> Shape:
    """Return the shape of a page."""
    link = _or_null({"type": "string", "format": "uri"})
    return record(count=WHOLE, next=link, previous=link, results=array_of(shape))


def array_or_page_of(shape: Shape) -> Shape:
    """Return the shape of an answer that is an array, or with `page` a page."""
    return {"oneOf": [array_of(shape), page_of(shape)]}


def ref(name: str) -> Shape:
    """Return a reference to one of `COMPONENTS`."""
    return {"$ref": f"#/components/schemas/{name}"}


_ROW = {
    "id": _ID,
    "customer_id": _ID,
    "vehicle_id": _ID,
    "assigned_employee_id": _or_null(_ID),
    "appointment_type": _TYPE,
    "scheduled_date": _DAY,
    "scheduled_time": _CLOCK,
    "status": _STATUS,
    "customer_name": {**TEXT, "description": "`Unknown` when it can't be had."},
    "vehicle_details": {**TEXT, "description": "Year, make and model; empty when they can't be had."},
    "employee_name": {**TEXT, "description": "`Unassigned` when there is none or it can't be had."},
}

COMPONENTS: dict[str, Shape] = {
    "AppointmentRow": record(**_ROW),
    "Appointment": record(
        ("internal_notes",),
        **_ROW,
        duration_minutes=WHOLE,
        service_description=TEXT,
        customer_notes=TEXT,
        internal_notes={**TEXT, "description": "Staff only: absent for customers."},
        estimated_cost=_or_null({"type": "string", "pattern": r"^\d+\.\d\d$"}),
        duration_seconds=WHOLE,
        duration={"type": "string", "pattern": r"^\d\d+:\d\d:\d\d$"},
        time_until_appointment={**TEXT, "example": "3 days"},
        created_by_user_id=_ID,
        created_at=_MOMENT,
        updated_at=_MOMENT,
        cancelled_at=_or_null(_MOMENT),
        completed_at=_or_null(_MOMENT),
    ),
    "ActionDone": record(status=TEXT, message=TEXT, appointment=ref("Appointment")),
    "HistoryRow": record(
        id=_ID,
        appointment_id=_ID,
        changed_by_user_id=_ID,
        previous_status=TEXT,
        new_status=TEXT,
        change_reason=TEXT,
        changed_at=_MOMENT,
    ),
    "Stats": record(
        total_appointments=WHOLE,
        **dict.fromkeys(STATUSES, WHOLE),
        today=WHOLE,
        completed_today=WHOLE,
        upcoming=WHOLE,
        by_type={"type": "object", "additionalProperties": WHOLE},
    ),
    "TimeSlot": record(
        id=_ID,
        date=_DAY,
        start_time=_CLOCK,
        end_time=_CLOCK,
        is_available={"type": "boolean"},
        max_concurrent_appointments=WHOLE,
        available_capacity=WHOLE,
    ),
    "AvailableSlots": record(
        count=WHOLE,
        slots=array_of(record(date=_DAY, start_time=_CLOCK, end_time=_CLOCK, available_capacity=WHOLE)),
    ),
    "SlotsCreated": record(message=TEXT, count=WHOLE),
    "Invalidated": record(invalidated=WHOLE),
    "Anything": {"type": "object", "additionalProperties": True},
    "Health": record(status=TEXT, service=TEXT, version=TEXT),
    "Readiness": record(
        status={"type": "string", "enum": ["ready", "degraded", "unavailable", "draining"]},
        checks={"type": "object", "additionalProperties": TEXT},
    ),
    "Error": record(detail=TEXT),
    "FieldOrRuleErrors": {
        "type": "object",
        "description": "Field names with what is wrong with each; `detail` for a rule.",
        "additionalProperties": array_of(TEXT),
    },
}
