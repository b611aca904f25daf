"""The limits of the business on what a caller gives: how long, how late, how many days.

Types and formats are checked before, by the schemas of the API.
"""

from datetime import date
from typing import Final

from servease_appt.appointments.errors import FieldErrors
from servease_appt.scheduling.intervals import LAST_DATE, MAX_DURATION_MINUTES, MIN_DURATION_MINUTES

MAX_INTEGER: Final = 2**31 - 1
"""The largest number that an integer column holds."""


class FieldChecks:
    """Checks values field by field and collects what is wrong, so that the caller learns of all of it at once."""

    def __init__(self) -> None:
        self._errors: dict[str, list[str]] = {}

    def refuse(self, field: str, message: str) -> None:
        """Note that `field` is wrong."""
        self._errors.setdefault(field, []).append(message)

    def raise_if_invalid(self) -> None:
        """Raise `FieldErrors` if any field is wrong."""
        if self._errors:
            raise FieldErrors(self._errors)

    def whole(self, field: str, number: int, low: int, high: int) -> None:
        """Refuse a number that is not from `low` to `high`."""
        if not low <= number <= high:
            self.refuse(field, f"Must be a whole number from {low} to {high}.")

    def duration(self, field: str, minutes: int) -> None:
        """Refuse a length that no booking may have."""
        if not MIN_DURATION_MINUTES <= minutes <= MAX_DURATION_MINUTES:
            self.refuse(
                field,
                f"Must be a whole number of minutes from {MIN_DURATION_MINUTES} to {MAX_DURATION_MINUTES}.",
            )

    def day(self, field: str, day: date) -> None:
        """Refuse a day so late that a booking's end could lie beyond the calendar."""
        if day > LAST_DATE:
            self.refuse(field, f"Must not be later than {LAST_DATE}.")

    def span(self, first: date, last: date, most_days: int) -> None:
        """Refuse an `end_date` before `start_date`, or more than `most_days` days, both counted."""
        if first > last:
            self.refuse("end_date", f"Must not be before start_date ({first}).")
        if (last - first).days >= most_days:
            self.refuse("end_date", f"Must be at most {most_days} days from start_date, both included.")
