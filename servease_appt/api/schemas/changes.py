"""Changes of appointments: what is asked for, and the answer."""

from marshmallow import fields

from servease_appt.api.schemas.bases import AnswerSchema, RequestSchema
from servease_appt.api.schemas.compiled import CompiledSchema
from servease_appt.api.schemas.fields import Flag, Id, Link, Moment, Text, Whole

LARGEST_CHANGES = 500


class ChangesQuery(RequestSchema):
    """Where to begin, and how many changes. Unknown parameters are ignored."""

    updated_since = Moment(
        metadata={
            "description": "Begin with what became visible at this moment or later. `cursor` overrules it."
        }
    )
    cursor = Text(
        longest=500,
        metadata={
            "description": "That of `next`. Without it and `updated_since`: all changes that are kept."
        },
    )
    page_size = Whole(1, LARGEST_CHANGES, load_default=100, metadata={"description": "Changes at most."})


class ChangeEventSchema(CompiledSchema):
    """One change of an appointment. Dumps a `BookingEvent`."""

    number = Whole(metadata={"description": "Grows from each change to the next."})
    event = Text(
        metadata={
            "description": "`booked`, `edited`, `rescheduled`, `assigned`, `deleted`, or the new status. Of"
            " several things that changed at once it names one."
        }
    )
    appointment_id = Id()
    customer_id = Id(allow_none=True)
    status = Text(allow_none=True, metadata={"description": "After the change; of a deletion, the last one."})
    occurred_at = Moment()


class ChangesSchema(AnswerSchema):
    """Changes, oldest first."""

    next = Link(metadata={"description": "Where to continue, now or later. Never null."})
    has_more = Flag(metadata={"description": "Whether there are more changes already."})
    results = fields.Nested(ChangeEventSchema, many=True)
