"""The operator's settings for bookings."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class BookingPolicy:
    """The settings that the rules need.

    Attributes:
        default_capacity: open appointments that may run at a moment which no time slot covers.
        default_duration_minutes: the length of a booking that names none.
        timezone: in which scheduled dates and times are read.
    """

    default_capacity: int
    default_duration_minutes: int
    timezone: ZoneInfo
