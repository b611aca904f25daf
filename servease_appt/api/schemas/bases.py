"""What the schemas of requests and of answers have in common."""

from collections.abc import Mapping
from datetime import date
from itertools import islice
from typing import Any

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields, pre_load, validates_schema

MOST_UNKNOWN_NAMED = 20
"""How many unknown fields of one body an error names at most."""


class RequestSchema(Schema):
    """A request of which unknown fields are ignored."""

    class Meta:
        unknown = EXCLUDE


class ChangeSchema(Schema):
    """Changes to a row: a field that the schema does not have is refused by its name."""

    class Meta:
        unknown = RAISE

    hint = ""
    """What the error for such a field says at its end."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.error_messages = {
            **self.error_messages,
            "unknown": f"Can't be changed here. What can: {', '.join(self.fields)}. {self.hint}".rstrip(),
        }

    @pre_load
    def _limit_unknown(self, data: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """Leave `MOST_UNKNOWN_NAMED` unknown fields to be refused: a body of 1 MB can have 100,000 of them."""
        unknown = [name for name in data if name not in self.fields]
        surplus = set(islice(unknown, MOST_UNKNOWN_NAMED, None))
        return {name: value for name, value in data.items() if name not in surplus}


class DayRange(Schema):
    """A request with `start_date` and `end_date`, which have to be in this order."""

    @validates_schema
    def _in_order(self, data: dict[str, date], **_: Any) -> None:
        start, end = data.get("start_date"), data.get("end_date")
        if start and end and end < start:
            raise ValidationError("Must not be before start_date.", "end_date")


class AnswerSchema(Schema):
    """An answer. Each of its fields is always there, but for those with `metadata={"optional": True}`."""

    class Meta:
        unknown = EXCLUDE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:  # noqa: ARG002
        """Let the OpenAPI document list the field as required."""
        field_obj.required = not field_obj.metadata.get("optional", False)
