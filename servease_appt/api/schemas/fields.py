"""The field types of requests and answers.

Reading, each accepts one spelling; marshmallow's own types accept more: numerals of any script, week dates, times
with fractions, many words for true. Limits of the business are checked by the use cases, not here.

Writing, most leave the value as it is, because orjson writes ids, words, numbers, dates and UTC timestamps as the
contract has them. `Clock` and `Money` do more.
"""

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from marshmallow import ValidationError, fields, validate

from servease_appt.identifiers import canonical_uuid

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?", re.ASCII)
_MOMENT = re.compile(rf"{_DAY.pattern}T[\d:]{{8}}(?:\.\d{{1,6}})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_DIGITS = re.compile(r"\d{1,10}", re.ASCII)
_MONEY = re.compile(r"\d{1,8}(?:\.\d{1,2})?", re.ASCII)
LONGEST_TEXT = 5000
LARGEST_INTEGER = 2**31 - 1
"""The largest value of an integer column in PostgreSQL."""

Loaded = TypeVar("Loaded")


class _Strict(fields.Field[Loaded]):
    """A field that reads its value by `read`, which raises ValidationError."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Loaded:
        return self.read(value)

    def read(self, value: object) -> Loaded:
        """Return the Python value of `value`."""
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


class Moment(_Strict[dt.datetime]):
    """A timestamp in ISO 8601: read with `Z` or an offset, written in UTC with `Z`."""

    def read(self, value: object) -> dt.datetime:
        """Return the aware datetime."""
        try:
            moment = (
                dt.datetime.fromisoformat(value)
                if isinstance(value, str) and _MOMENT.fullmatch(value)
                else None
            )
        except ValueError:
            moment = None
        if moment is None:
            raise ValidationError("Not a valid timestamp. Use YYYY-MM-DDTHH:MM:SSZ.")
        return moment


class Figure(fields.Field[float]):
    """A number of an answer, whole or not."""


class Link(fields.Field[str]):
    """The address of another page."""


class Clock(_Strict[dt.time]):
    """A time of day: read from `HH:MM:SS` or `HH:MM`, written as `HH:MM:SS`."""

    written_as_is = str
    """A compiled dump does not call `_serialize` for values of this type: rows of a list hold text."""

    def read(self, value: object) -> dt.time:
        """Return the naive time."""
        if not isinstance(value, str) or not _CLOCK.fullmatch(value):
            raise ValidationError("Not a valid time. Use HH:MM:SS or HH:MM.")
        return dt.time.fromisoformat(value)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        """Return the time without fractions of a second. Text and None stay as they are."""
        return value.replace(microsecond=0) if value.__class__ is dt.time else value


class Whole(_Strict[int]):
    """A whole number from `low` to `high`: a JSON integer, or its digits as text, as forms and queries do."""

    def __init__(self, low: int = 0, high: int = LARGEST_INTEGER, **kwargs: Any) -> None:
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
    """JSON's true or false, and no other spelling."""

    def read(self, value: object) -> bool:
        """Return the truth value."""
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value


class Money(_Strict[Decimal]):
    """An amount of money: read from text or a number with at most two decimals, written as text with two."""

    def read(self, value: object) -> Decimal:
        """Return the amount with exactly two decimals."""
        text = str(value) if type(value) in {int, float, str} else ""
        if not _MONEY.fullmatch(text):
            raise ValidationError("Must be an amount from 0 to 99999999.99 with at most two decimals.")
        return Decimal(text).quantize(Decimal("0.01"))

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        """Return the amount as text, None for None."""
        return None if value is None else f"{value:.2f}"


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


class CommaSeparated(_Strict[list[str]]):
    """Values of a query, with commas between them; loads as the distinct ones, in the order given.

    A name that is repeated in the query means the same as commas.
    """

    def __init__(self, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.most = most

    def read(self, value: object) -> list[str]:
        """Return the distinct values."""
        texts = value.split(",") if isinstance(value, str) else []
        values = list(dict.fromkeys(map(self.read_one, texts)))
        if not 1 <= len(values) <= self.most:
            raise ValidationError(f"Must be 1 to {self.most} values.")
        return values

    def read_one(self, text: str) -> str:
        """Return one value as it is compared."""
        raise NotImplementedError


class CommaSeparatedIds(CommaSeparated):
    """UUIDs with commas between them."""

    def read_one(self, text: str) -> str:
        """Return the canonical UUID."""
        known = canonical_uuid(text)
        if known is None:
            raise ValidationError(f"Must be UUIDs with commas between them, {self.most} at most.")
        return known


class Text(fields.String):
    """Text of at most `longest` characters, without NUL, which PostgreSQL can't store."""

    _serialize = fields.Field._serialize  # noqa: SLF001 - the value as it is

    def __init__(self, longest: int = LONGEST_TEXT, **kwargs: Any) -> None:
        super().__init__(validate=[validate.Length(max=longest), _refuse_nul], **kwargs)


def _refuse_nul(value: str) -> None:
    if "\0" in value:
        raise ValidationError("Must not contain NUL.")


class Choice(fields.String):
    """One of a few words; the error names them."""

    _serialize = fields.Field._serialize  # noqa: SLF001 - the value as it is

    def __init__(
        self, choices: Iterable[str], *, component: str | None = None, others: bool = False, **kwargs: Any
    ) -> None:
        """Describe the words.

        Args:
            choices: the allowed words, in the order in which errors and the OpenAPI document name them.
            component: the name of the words in the OpenAPI document; None to write them where they are used.
            others: in an answer, other words may occur as well; for the document only.
            kwargs: as for every field.
        """
        allowed = validate.OneOf([str(choice) for choice in choices], error="Must be one of: {choices}.")
        super().__init__(validate=allowed, **kwargs)
        self.component = component
        self.others = others


class CommaSeparatedChoices(CommaSeparated):
    """Some of a few words, with commas between them; the error names all words."""

    def __init__(self, choices: Sequence[str], *, component: str, **kwargs: Any) -> None:
        """Describe the words.

        Args:
            choices: the allowed words.
            component: their name in the OpenAPI document.
            kwargs: as for every field.
        """
        super().__init__(len(choices), **kwargs)
        self.choices = choices
        self.component = component

    def read_one(self, text: str) -> str:
        """Return the word."""
        if text not in self.choices:
            raise ValidationError(f"Must be one of: {', '.join(self.choices)}.")
        return text
