"""The history of appointments: what is asked for, and the answers."""

from marshmallow import fields

from servease_appt.api.schemas.compiled import CompiledSchema
from servease_appt.api.schemas.fields import Id, Moment, Text
from servease_appt.api.schemas.pages import PageQuery, PageSchema
from servease_appt.api.schemas.words import status_field


class HistoryQuery(PageQuery):
    """The filter of the history."""

    appointment_id = Id()


class HistorySchema(CompiledSchema):
    """One accepted change. Dumps a `HistoryRow`."""

    id = Id()
    appointment_id = Id()
    changed_by_user_id = Id()
    previous_status = status_field(others=True)
    new_status = status_field(others=True)
    change_reason = Text()
    changed_at = Moment()


class HistoryPageSchema(PageSchema):
    """A page of changes."""

    results = fields.Nested(HistorySchema, many=True)
