"""Time slots: what clients send, and what they get."""

from marshmallow import fields

from servease_appt.api.schemas.bases import AnswerSchema, ChangeSchema, DayRange, RequestSchema
from servease_appt.api.schemas.compiled import CompiledSchema
from servease_appt.api.schemas.fields import Clock, Day, Flag, Id, Text, Whole
from servease_appt.api.schemas.pages import PageQuery, PageSchema


class SlotQuery(PageQuery, DayRange):
    """The filters of the list of time slots."""

    start_date = Day()
    end_date = Day()


class SlotCreate(RequestSchema):
    """A time slot. An `end_time` of 00:00 is midnight at the end of the day."""

    date = Day(required=True)
    start_time = Clock(required=True)
    end_time = Clock(required=True)
    is_available = Flag(load_default=True)
    max_concurrent_appointments = Whole()


class SlotPatch(ChangeSchema):
    """Changes to a time slot."""

    date = Day()
    start_time = Clock()
    end_time = Clock()
    is_available = Flag()
    max_concurrent_appointments = Whole()


class SlotUpdate(SlotPatch):
    """A time slot with all its times. What may be left out stays as it is."""

    date = Day(required=True)
    start_time = Clock(required=True)
    end_time = Clock(required=True)


class SlotRange(RequestSchema, DayRange):
    """The days to fill with hourly slots, at most 366, both ends counted."""

    start_date = Day(required=True)
    end_date = Day(required=True)


class TimeSlotSchema(CompiledSchema):
    """A time slot. Dumps a `Slot`."""

    id = Id()
    date = Day()
    start_time = Clock()
    end_time = Clock(metadata={"description": "00:00:00 is midnight at the end of the day."})
    is_available = Flag()
    max_concurrent_appointments = Whole()
    available_capacity = Whole(
        metadata={"description": "How many more bookings as long as the slot it takes."}
    )


class TimeSlotPageSchema(PageSchema):
    """A page of time slots."""

    results = fields.Nested(TimeSlotSchema, many=True)


class SlotsCreatedSchema(AnswerSchema):
    """How many time slots were added."""

    message = Text()
    count = Whole()
