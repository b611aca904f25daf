"""What the schemas of requests and of answers have in common."""

from datetime import date
from typing import Any

from marshmallow import EXCLUDE, INCLUDE, Schema, ValidationError, fields, pre_load, validates_schema

MOST_UNKNOWN_NAMED = 20
"""How many unknown fields of one body an error names at most: 1 MB has room for 100,000."""


class RequestSchema(Schema):
    """A request of which unknown fields are ignored."""

    class Meta:
        unknown = EXCLUDE


class ChangeSchema(Schema):
    """Changes to a row. Other fields are passed on: the use cases refuse them by name, knowing row and caller."""

    class Meta:
        unknown = INCLUDE

    @pre_load
    def _limit_unknown(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Refuse more unknown fields than an error names, before any row is locked."""
        unknown = [name for name in data if name not in self.fields]
        if len(unknown) > MOST_UNKNOWN_NAMED:
            named = unknown[:MOST_UNKNOWN_NAMED]
            raise ValidationError({name: ["Can't be changed here."] for name in named})
        return data


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

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Let the OpenAPI document list the field as required."""
        field_obj.required = not field_obj.metadata.get("optional", False)
