"""Time slots: when the workshop takes bookings, and how many at once."""

from typing import Any

from flask import Response, request

from servease_appt.api.context import container
from servease_appt.api.paging import page_answer
from servease_appt.api.responses import empty_response, json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.time_slots import (
    SlotCreate,
    SlotPatch,
    SlotQuery,
    SlotRange,
    SlotsCreatedSchema,
    SlotUpdate,
    TimeSlotPageSchema,
    TimeSlotSchema,
)
from servease_appt.api.tokens import Caller
from servease_appt.appointments import slots
from servease_appt.appointments.records import NewSlot, Window

resource = Resource("time_slots", "/time-slots/", "Time slots")
SLOT = TimeSlotSchema()
PAGE = TimeSlotPageSchema()
CREATED = SlotsCreatedSchema()


@resource.declare(
    "GET",
    "/time-slots/",
    role=RequiredRole.USERS,
    summary="List time slots by date and start.",
    query=SlotQuery(),
    answer=PAGE,
    errors=[404],
)
def list_slots(caller: Caller, query: dict[str, Any]) -> Response:
    """Return one page of slots."""
    parts = container()
    number, size = query["page"], query["page_size"]
    with parts.database.reading() as connection:
        page = slots.list_slots(
            connection,
            parts.policy,
            caller.actor,
            start_date=query.get("start_date"),
            end_date=query.get("end_date"),
            window=Window.of_page(number, size),
        )
    answer = page_answer(request, page.rows, count=page.count, page=number, page_size=size)
    return json_response(PAGE.dump(answer))


@resource.declare(
    "POST",
    "/time-slots/",
    role=RequiredRole.STAFF,
    summary="Add a time slot.",
    body=SlotCreate(),
    answer=SLOT,
    status=201,
)
def create_slot(caller: Caller, body: dict[str, Any]) -> Response:
    """Add one slot."""
    parts = container()
    slot = slots.create_slot(parts.database, parts.policy, caller.actor, NewSlot(**body))
    return json_response(SLOT.dump(slot), 201)


@resource.declare(
    "POST",
    "/time-slots/bulk_create/",
    role=RequiredRole.STAFF,
    summary="Add hourly slots, 9 to 17, on the weekdays of a range. Twice adds nothing.",
    body=SlotRange(),
    answer=CREATED,
    status=201,
)
def bulk_create_slots(caller: Caller, body: dict[str, Any]) -> Response:
    """Add the slots that are missing."""
    parts = container()
    count = slots.bulk_create(
        parts.database, parts.policy, caller.actor, body["start_date"], body["end_date"]
    )
    return json_response(CREATED.dump({"message": f"Created {count} time slots", "count": count}), 201)


@resource.declare(
    "GET",
    "/time-slots/<slot_id>/",
    role=RequiredRole.USERS,
    summary="Read one time slot.",
    answer=SLOT,
)
def get_slot(caller: Caller, slot_id: str) -> Response:
    """Return one slot."""
    parts = container()
    with parts.database.reading() as connection:
        slot = slots.get_slot(connection, parts.policy, caller.actor, slot_id)
    return json_response(SLOT.dump(slot))


@resource.declare(
    "PUT",
    "/time-slots/<slot_id>/",
    role=RequiredRole.STAFF,
    summary="Change a time slot.",
    body=SlotUpdate(),
    answer=SLOT,
)
def replace_slot(caller: Caller, slot_id: str, body: dict[str, Any]) -> Response:
    """Change one slot; what may be left out stays as it is."""
    return _update(caller, slot_id, body)


@resource.declare(
    "PATCH",
    "/time-slots/<slot_id>/",
    role=RequiredRole.STAFF,
    summary="Change some fields of a time slot.",
    body=SlotPatch(),
    answer=SLOT,
)
def change_slot(caller: Caller, slot_id: str, body: dict[str, Any]) -> Response:
    """Change one slot."""
    return _update(caller, slot_id, body)


def _update(caller: Caller, slot_id: str, changes: dict[str, Any]) -> Response:
    parts = container()
    slot = slots.update_slot(parts.database, parts.policy, caller.actor, slot_id, changes)
    return json_response(SLOT.dump(slot))


@resource.declare(
    "DELETE",
    "/time-slots/<slot_id>/",
    role=RequiredRole.STAFF,
    summary="Remove a time slot. Its time falls back to the default capacity.",
    status=204,
)
def delete_slot(caller: Caller, slot_id: str) -> Response:
    """Remove one slot."""
    slots.delete_slot(container().database, caller.actor, slot_id)
    return empty_response()
