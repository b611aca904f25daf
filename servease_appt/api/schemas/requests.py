"""What clients may send, field by field. The same schemas check requests and fill the OpenAPI document.

What a body may not name on update is judged by the use cases, which know the caller: those schemas pass unknown
fields on. Everywhere else unknown fields are dropped.
"""

from datetime import date
from typing import Any

from marshmallow import EXCLUDE, INCLUDE, Schema, ValidationError, validates_schema

from servease_appt.api.paging import PageQuery, page_number
from servease_appt.api.schemas.fields import Choice, Clock, Day, Flag, Id, Ids, Money, Text, Whole
from servease_appt.appointments.limits import MAX_INTEGER
from servease_appt.scheduling.intervals import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES
from servease_appt.scheduling.statuses import AppointmentType, Status

STATUSES = [status.value for status in Status]
APPOINTMENT_TYPES = [kind.value for kind in AppointmentType]
MOST_INVALIDATIONS = 1000
STAFF_ONLY_ON_CREATE = ("assigned_employee_id", "internal_notes", "estimated_cost")
CUSTOMER_EDITABLE = ("service_description", "customer_notes")


def _duration(**kwargs: Any) -> Whole:
    return Whole(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES, **kwargs)


class _Input(Schema):
    class Meta:
        unknown = EXCLUDE


class _DayRange(Schema):
    @validates_schema
    def _in_order(self, data: dict[str, date], **_: Any) -> None:
        start, end = data.get("start_date"), data.get("end_date")
        if start and end and end < start:
            raise ValidationError("Must not be before start_date.", "end_date")


class AppointmentFilterQuery(PageQuery, _DayRange):
    """The filters of a list of appointments, and its page."""

    status = Choice(STATUSES)
    start_date = Day(metadata={"description": "The first scheduled date to show."})
    end_date = Day(metadata={"description": "The last scheduled date to show."})
    appointment_type = Choice(APPOINTMENT_TYPES)
    customer_id = Id()
    employee_id = Id(metadata={"description": "The assigned employee."})
    vehicle_id = Id()


class _ArrayQuery(AppointmentFilterQuery):
    page = page_number("With it the answer is a page, without it an array.")


class CustomerAppointmentsQuery(_ArrayQuery):
    """Which customer's appointments."""

    customer_id = Id(required=True)


class EmployeeScheduleQuery(_ArrayQuery):
    """Which employee's appointments."""

    employee_id = Id(required=True)


class VehicleHistoryQuery(_ArrayQuery):
    """Which vehicle's appointments."""

    vehicle_id = Id(required=True)


class AvailableSlotsQuery(_Input, _DayRange):
    """Where to look for room, and for how much of it."""

    start_date = Day(required=True)
    end_date = Day(required=True, metadata={"description": "At most 92 days, both ends counted."})
    duration_minutes = _duration(
        metadata={"description": "Left out: the length of a booking that names none."}
    )


class SlotQuery(PageQuery, _DayRange):
    """The filters of the list of time slots."""

    start_date = Day()
    end_date = Day()


class HistoryQuery(PageQuery):
    """The filter of the history."""

    appointment_id = Id()


class AppointmentCreate(_Input):
    """A booking."""

    customer_id = Id(required=True)
    vehicle_id = Id(required=True)
    appointment_type = Choice(APPOINTMENT_TYPES, required=True)
    scheduled_date = Day(required=True)
    scheduled_time = Clock(required=True)
    duration_minutes = _duration()
    service_description = Text()
    customer_notes = Text()
    assigned_employee_id = Id(allow_none=True)
    internal_notes = Text()
    estimated_cost = Money(allow_none=True)


class AppointmentUpdate(Schema):
    """Changes to an appointment. What is left out stays as it is, for PUT as for PATCH."""

    class Meta:
        unknown = INCLUDE

    service_description = Text()
    customer_notes = Text()
    appointment_type = Choice(APPOINTMENT_TYPES)
    duration_minutes = _duration()
    internal_notes = Text()
    estimated_cost = Money(allow_none=True)


class AppointmentPatch(AppointmentUpdate):
    """Changes, and the two that the platform's own services make by PATCH."""

    status = Choice(STATUSES, metadata={"description": "The same as the action that leads to this status."})
    duration_seconds = Whole(0, MAX_INTEGER, metadata={"description": "How long the work took."})


class Reason(_Input):
    """Why: it stands in the history."""

    reason = Text(load_default="")


class Reschedule(Reason):
    """The new start."""

    new_date = Day(required=True)
    new_time = Clock(required=True)


class Assign(_Input):
    """Who is to do the work."""

    employee_id = Id(required=True)


class SlotCreate(_Input):
    """A time slot. An `end_time` of 00:00 is midnight at the end of the day."""

    date = Day(required=True)
    start_time = Clock(required=True)
    end_time = Clock(required=True)
    is_available = Flag(load_default=True)
    max_concurrent_appointments = Whole(0, MAX_INTEGER)


class SlotPatch(Schema):
    """Changes to a time slot."""

    class Meta:
        unknown = INCLUDE

    date = Day()
    start_time = Clock()
    end_time = Clock()
    is_available = Flag()
    max_concurrent_appointments = Whole(0, MAX_INTEGER)


class SlotUpdate(SlotPatch):
    """A time slot anew. What may be left out stays as it is."""

    date = Day(required=True)
    start_time = Clock(required=True)
    end_time = Clock(required=True)


class SlotRange(_Input, _DayRange):
    """The days to fill with hourly slots, at most 366, both ends counted."""

    start_date = Day(required=True)
    end_date = Day(required=True)


class CacheInvalidation(_Input):
    """What changed upstream."""

    entity = Choice(["customer", "vehicle", "employee"], required=True)
    ids = Ids(MOST_INVALIDATIONS, required=True)
