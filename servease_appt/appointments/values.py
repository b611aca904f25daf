"""The one place where a value is judged before it may come near SQL.

PostgreSQL can't take everything that JSON can carry: no NUL and no half of a surrogate pair in a text, no integer
beyond 32 bits in an integer column, no price beyond its column. Refused here, such a value is the caller's mistake
with the field's name; let through, it would be an error of the server.
"""

from collections.abc import Collection
from datetime import date, time
from decimal import Decimal
from typing import Any, Final

from servease_appt.appointments.errors import FieldErrors
from servease_appt.scheduling.intervals import LAST_DATE, MAX_DURATION_MINUTES, MIN_DURATION_MINUTES

MAX_INTEGER: Final = 2**31 - 1
MAX_COST: Final = Decimal("99999999.99")
_CENT: Final = Decimal("0.01")


class Fields:
    """Judges values field by field and keeps what is wrong, so that the caller learns of all of it at once."""

    def __init__(self) -> None:
        self._errors: dict[str, list[str]] = {}

    def refuse(self, field: str, message: str) -> None:
        """Note a mistake."""
        self._errors.setdefault(field, []).append(message)

    def settle(self) -> None:
        """Raise `FieldErrors` if there was any mistake."""
        if self._errors:
            raise FieldErrors(self._errors)

    def text(self, field: str, value: Any) -> None:
        """Any text that can be stored."""
        if not isinstance(value, str):
            self.refuse(field, "Must be a text.")
        elif not storable(value):
            self.refuse(field, "Must not contain NUL or half of a surrogate pair.")

    def integer(self, field: str, value: Any, low: int, high: int, unit: str = "") -> None:
        """A whole number from `low` to `high`."""
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.refuse(field, f"Must be a whole number{unit} from {low} to {high}.")

    def duration(self, field: str, value: Any) -> None:
        """The length of a booking."""
        self.integer(field, value, MIN_DURATION_MINUTES, MAX_DURATION_MINUTES, " of minutes")

    def one_of(self, field: str, value: Any, allowed: Collection[str]) -> None:
        """One of some words."""
        if not isinstance(value, str) or value not in allowed:
            self.refuse(field, f"Must be one of: {', '.join(allowed)}.")

    def cost(self, field: str, value: Any) -> Decimal | None:
        """A price or None; given back with two decimals, as it will be stored."""
        if value is None:
            return None
        if (
            not isinstance(value, Decimal)
            or not value.is_finite()
            or not 0 <= value <= MAX_COST
            or value != value.quantize(_CENT)
        ):
            self.refuse(
                field, f"Must be an amount from 0.00 to {MAX_COST} with two decimals at most, or null."
            )
            return None
        return abs(value.quantize(_CENT))

    def day(self, field: str, value: Any) -> None:
        """A day that calendar arithmetic can handle."""
        if not isinstance(value, date):
            self.refuse(field, "Must be a date, YYYY-MM-DD.")
        elif value > LAST_DATE:
            self.refuse(field, f"Must not be later than {LAST_DATE}.")

    def time_of_day(self, field: str, value: Any) -> None:
        """A time without a zone and without fractions of a second."""
        if not isinstance(value, time) or value.tzinfo is not None or value.microsecond:
            self.refuse(field, "Must be a time of day, HH:MM:SS.")

    def flag(self, field: str, value: Any) -> None:
        """True or False."""
        if not isinstance(value, bool):
            self.refuse(field, "Must be true or false.")

    def in_order(self, first: date, last: date) -> None:
        """`start_date` and `end_date`."""
        if first > last:
            self.refuse("end_date", f"Must not be before start_date ({first}).")

    def span(self, first: date, last: date, most_days: int) -> None:
        """`start_date` and `end_date`, both inclusive, in order and not too far apart."""
        self.in_order(first, last)
        if (last - first).days >= most_days:
            self.refuse("end_date", f"Must be at most {most_days} days from start_date, both included.")


def storable(value: str) -> bool:
    """Whether PostgreSQL can hold this text."""
    if "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
