"""The values that use cases take and return: frozen, without SQL and without HTTP.

Ids are canonical lower-case dashed UUID strings, dates and times naive in the business time zone, timestamps
aware UTC datetimes. Statuses and types are plain strings, since rows from before this service may hold others
than it knows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Final, Generic, NamedTuple, TypeVar

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Appointment:
    """An appointment with all its columns; `duration_seconds` is the time that the work took."""

    id: str
    customer_id: str
    vehicle_id: str
    assigned_employee_id: str | None
    appointment_type: str
    scheduled_date: date
    scheduled_time: time
    duration_minutes: int
    status: str
    service_description: str
    customer_notes: str
    internal_notes: str
    estimated_cost: Decimal | None
    duration_seconds: int
    created_by_user_id: str
    created_at: datetime
    updated_at: datetime
    cancelled_at: datetime | None
    completed_at: datetime | None

    @property
    def version(self) -> str:
        """Return 32 hexadecimal digits; every change of a column changes them."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:32]


class AppointmentRow(NamedTuple):
    """One row of a list, ready for JSON: the date `YYYY-MM-DD`, the time `HH:MM:SS`."""

    id: str
    customer_id: str
    vehicle_id: str
    assigned_employee_id: str | None
    appointment_type: str
    scheduled_date: str
    scheduled_time: str
    status: str


class HistoryRow(NamedTuple):
    """One accepted change of an appointment."""

    id: str
    appointment_id: str
    changed_by_user_id: str
    previous_status: str
    new_status: str
    change_reason: str
    changed_at: datetime


class Slot(NamedTuple):
    """A time slot. An `end_time` of 00:00 is midnight at the end of the day.

    `available_capacity` is how many more bookings of the slot's own length fit, 0 at least.
    """

    id: str
    date: date
    start_time: time
    end_time: time
    is_available: bool
    max_concurrent_appointments: int
    available_capacity: int


class FreeStart(NamedTuple):
    """A start at which a booking of the asked length fits `available_capacity` times."""

    date: date
    start_time: time
    end_time: time
    available_capacity: int


@dataclass(frozen=True, slots=True)
class Page(Generic[RowT]):
    """Some rows, and how many there are in total."""

    count: int
    rows: Sequence[RowT]


class Order(Enum):
    """The order of a list of appointments; the value is its name for clients."""

    LATEST_FIRST = "-scheduled_date"
    EARLIEST_FIRST = "scheduled_date"


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the rows to return; both numbers are 0 or more, however large."""

    limit: int
    offset: int = 0
    order: Order = Order.LATEST_FIRST

    @classmethod
    def of_page(cls, page: int, page_size: int, order: Order = Order.LATEST_FIRST) -> "Window":
        """Return the window of a page, counted from 1."""
        return cls(limit=page_size, offset=(page - 1) * page_size, order=order)


MAX_OFFSET: Final = 2**62
"""A window beyond it is empty. PostgreSQL takes larger offsets, but can't add to the largest one."""

ARRAY_ROWS: Final = 500
ARRAY: Final = Window(limit=ARRAY_ROWS)
"""The window of the endpoints that answer with an array."""


class Position(NamedTuple):
    """The place of a row in the list. The row may be gone. Date and time are text as PostgreSQL writes them."""

    scheduled_date: str
    scheduled_time: str
    id: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """The rows next to a position, which stay the same whatever is inserted or deleted elsewhere.

    Attributes:
        limit: the number of rows at most.
        order: the order of the list.
        position: where to begin; its own row is not included. None: at the first row of the list.
        backwards: take the rows before the position instead of those after it.
    """

    limit: int
    order: Order = Order.LATEST_FIRST
    position: Position | None = None
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class StretchOfRows:
    """The rows of a `Stretch`, in the order of the list.

    Attributes:
        count: how many rows there are in total.
        rows: the rows.
        before: where the rows before these end; None if there are none.
        after: where the rows after these begin; None if there are none.
    """

    count: int
    rows: Sequence["AppointmentRow"]
    before: Position | None
    after: Position | None


@dataclass(frozen=True, slots=True)
class AppointmentFilters:
    """The filters of a list; both dates are inclusive, None does not filter.

    A row needs one of the values of `status`, and of `ids`; neither is empty.
    """

    status: Sequence[str] | None = None
    appointment_type: str | None = None
    start_date: date | None = None
    end_date: date | None = None
    customer_id: str | None = None
    employee_id: str | None = None
    vehicle_id: str | None = None
    ids: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class NewAppointment:
    """A booking as asked for.

    A customer's `assigned_employee_id`, `internal_notes` and `estimated_cost` are ignored.
    """

    customer_id: str
    vehicle_id: str
    appointment_type: str
    scheduled_date: date
    scheduled_time: time
    duration_minutes: int | None = None
    service_description: str = ""
    customer_notes: str = ""
    assigned_employee_id: str | None = None
    internal_notes: str = ""
    estimated_cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class NewSlot:
    """A time slot as asked for; without a capacity it gets the default one."""

    date: date
    start_time: time
    end_time: time
    is_available: bool = True
    max_concurrent_appointments: int | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts over what the actor may see.

    Attributes:
        by_status: every known status, also those with 0.
        today: scheduled for today. completed_today: finished today.
        upcoming: pending or confirmed, with the start still ahead.
        by_type: only the types that occur.
    """

    total_appointments: int
    by_status: dict[str, int]
    today: int
    completed_today: int
    upcoming: int
    by_type: dict[str, int]
