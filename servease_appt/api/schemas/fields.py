"""Input fields that take one spelling each.

marshmallow's own accept more: numerals of any script, week dates, times with fractions, truth in many words. What
a value may be once it is read is for the use cases to judge, whoever calls them.
"""

import datetime as dt
import re
from decimal import Decimal
from typing import Any, TypeVar

from marshmallow import ValidationError, fields, validate

from servease_appt.appointments.limits import storable
from servease_appt.identifiers import canonical_uuid

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?", re.ASCII)
_DIGITS = re.compile(r"\d{1,10}", re.ASCII)
_MONEY = re.compile(r"\d{1,8}(?:\.\d{1,2})?", re.ASCII)
LONGEST_TEXT = 5000


Loaded = TypeVar("Loaded")


class _Strict(fields.Field[Loaded]):
    """A field that reads its value by `read`, which raises ValidationError."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Loaded:  # noqa: ARG002
        return self.read(value)

    def read(self, value: object) -> Loaded:
        """Return what `value` stands for."""
        raise NotImplementedError


class Id(_Strict[str]):
    """A UUID with dashes, in either case; loads as lower case."""

    def read(self, value: object) -> str:
        """Return the canonical UUID."""
        known = canonical_uuid(value)
        if known is None:
            raise ValidationError("Not a valid UUID.")
        return known


class Day(_Strict[dt.date]):
    """A date `YYYY-MM-DD`."""

    def read(self, value: object) -> dt.date:
        """Return the date."""
        try:
            day = dt.date.fromisoformat(value) if isinstance(value, str) and _DAY.fullmatch(value) else None
        except ValueError:
            day = None
        if day is None:
            raise ValidationError("Not a valid date. Use YYYY-MM-DD.")
        return day


class Clock(_Strict[dt.time]):
    """A time of day `HH:MM:SS` or `HH:MM`."""

    def read(self, value: object) -> dt.time:
        """Return the naive time."""
        if not isinstance(value, str) or not _CLOCK.fullmatch(value):
            raise ValidationError("Not a valid time. Use HH:MM:SS or HH:MM.")
        return dt.time.fromisoformat(value)


class Whole(_Strict[int]):
    """A whole number from `low` to `high`: a JSON integer, or its digits as text, as forms and queries do."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.low = low
        self.high = high

    def read(self, value: object) -> int:
        """Return the number."""
        number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
        if type(number) is not int or not self.low <= number <= self.high:
            raise ValidationError(f"Must be a whole number from {self.low} to {self.high}.")
        return number


class Flag(_Strict[bool]):
    """true or false, and nothing that merely looks like it."""

    def read(self, value: object) -> bool:
        """Return the truth value."""
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value


class Money(_Strict[Decimal]):
    """An amount from 0 with at most two decimals: text as answers have it, or a number."""

    def read(self, value: object) -> Decimal:
        """Return the amount with exactly two decimals."""
        text = str(value) if type(value) in {int, float, str} else ""
        if not _MONEY.fullmatch(text):
            raise ValidationError("Must be an amount from 0 to 99999999.99 with at most two decimals.")
        return Decimal(text).quantize(Decimal("0.01"))


class Ids(_Strict[list[str]]):
    """A list of 1 to `most` UUIDs; loads as the distinct ones, in the order given."""

    def __init__(self, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.most = most

    def read(self, value: object) -> list[str]:
        """Return the distinct canonical UUIDs."""
        if not isinstance(value, list) or not 1 <= len(value) <= self.most:
            raise ValidationError(f"Must be a list of 1 to {self.most} UUIDs.")
        distinct: dict[str, None] = {}
        for position, entry in enumerate(value, start=1):
            known = canonical_uuid(entry)
            if known is None:
                raise ValidationError(f"Entry {position} is not a valid UUID.")
            distinct[known] = None
        return list(distinct)


def _check_storable(text: str) -> None:
    if not storable(text):
        raise ValidationError("Must not contain NUL or half of a surrogate pair.")


class Text(fields.String):
    """Text of at most `longest` characters."""

    def __init__(self, longest: int = LONGEST_TEXT, **kwargs: Any) -> None:
        super().__init__(validate=[validate.Length(max=longest), _check_storable], **kwargs)


class Choice(fields.String):
    """One of a few words; the error names them."""

    def __init__(self, choices: list[str], **kwargs: Any) -> None:
        allowed = validate.OneOf(choices, error="Must be one of: {choices}.")
        super().__init__(validate=allowed, **kwargs)
