"""Time slots and free starts.

The readers take a connection from `Database.reading()`; the commands are one transaction each and take the
locks of a booking on the days that they touch.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection

from servease_appt.bookings.actors import Actor
from servease_appt.bookings.policy import BookingPolicy
from servease_appt.bookings.records import FreeStart, NewSlot, Page, Slot, Window
from servease_appt.db.engine import Database


def list_slots(
    connection: Connection,
    policy: BookingPolicy,
    actor: Actor,
    *,
    start_date: date | None,
    end_date: date | None,
    window: Window,
) -> Page[Slot]:
    """Slots by date and start; both dates inclusive. Raises `FieldErrors` when the start is after the end."""
    raise NotImplementedError


def get_slot(connection: Connection, policy: BookingPolicy, actor: Actor, slot_id: str) -> Slot:
    """One slot. Raises `NotFound`."""
    raise NotImplementedError


def create_slot(database: Database, policy: BookingPolicy, actor: Actor, request: NewSlot) -> Slot:
    """Add one slot.

    Raises `Forbidden` for customers, `FieldErrors` for wrong values, `RuleBroken` when that start is taken.
    """
    raise NotImplementedError


def update_slot(
    database: Database, policy: BookingPolicy, actor: Actor, slot_id: str, changes: Mapping[str, Any]
) -> Slot:
    """Change fields, all or nothing; unknown names in `changes` are refused here, as in `commands.edit`.

    Less capacity than is booked already is allowed: what is booked stays, nothing new gets in.
    Raises as `create_slot`, and `NotFound`.
    """
    raise NotImplementedError


def delete_slot(database: Database, actor: Actor, slot_id: str) -> None:
    """Remove one slot; its time falls back to the default capacity. Raises `Forbidden`, `NotFound`."""
    raise NotImplementedError


def bulk_create(
    database: Database, policy: BookingPolicy, actor: Actor, start_date: date, end_date: date
) -> int:
    """Hourly slots, 9 to 17, on the weekdays from start to end inclusive; returns how many are new.

    Raises `Forbidden` for customers, `FieldErrors` when the range is backwards or above 366 days.
    """
    raise NotImplementedError


def available_slots(
    connection: Connection,
    policy: BookingPolicy,
    actor: Actor,
    *,
    start_date: date,
    end_date: date,
    duration_minutes: int | None,
    now: datetime,
) -> list[FreeStart]:
    """The starts after `now` at which a booking of that length fits, in order; both dates inclusive.

    Raises `FieldErrors` when the range is backwards or above 92 days, or the length is out of range.
    """
    raise NotImplementedError


def seed_slots(
    database: Database, policy: BookingPolicy, *, days: int, start_hour: int, end_hour: int, now: datetime
) -> int:
    """Hourly slots on the weekdays of the next `days` days, today included; returns how many are new.

    Raises `FieldErrors` named as the arguments.
    """
    raise NotImplementedError
