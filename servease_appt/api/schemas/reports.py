"""Free starts and statistics: what is asked for, and the answers."""

from marshmallow import fields

from servease_appt.api.schemas.appointment_requests import duration_field
from servease_appt.api.schemas.bases import AnswerSchema, DayRange, RequestSchema
from servease_appt.api.schemas.compiled import CompiledSchema
from servease_appt.api.schemas.fields import Clock, Day, Whole


class AvailableSlotsQuery(RequestSchema, DayRange):
    """The days to search, and the length of the booking."""

    start_date = Day(required=True)
    end_date = Day(required=True, metadata={"description": "At most 92 days, both ends counted."})
    duration_minutes = duration_field(
        metadata={"description": "Left out: the length of a booking that names none."}
    )


class FreeStartSchema(CompiledSchema):
    """A start at which a booking of that length fits. Dumps a `FreeStart`."""

    date = Day()
    start_time = Clock()
    end_time = Clock()
    available_capacity = Whole(metadata={"description": "How many more such bookings fit."})


class AvailableSlotsSchema(AnswerSchema):
    """All free starts."""

    count = Whole()
    slots = fields.Nested(FreeStartSchema, many=True)


class StatsSchema(AnswerSchema):
    """Counts of the appointments that the caller may see. Dumps a `Stats`."""

    total_appointments = Whole()
    pending = Whole(attribute="by_status.pending")
    confirmed = Whole(attribute="by_status.confirmed")
    in_progress = Whole(attribute="by_status.in_progress")
    completed = Whole(attribute="by_status.completed")
    cancelled = Whole(attribute="by_status.cancelled")
    no_show = Whole(attribute="by_status.no_show")
    today = Whole(metadata={"description": "Scheduled for today."})
    completed_today = Whole(metadata={"description": "Completed today."})
    upcoming = Whole(metadata={"description": "Pending or confirmed, and still ahead."})
    by_type = fields.Dict(
        keys=fields.String(), values=Whole(), metadata={"description": "The types that occur."}
    )
