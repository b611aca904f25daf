"""What clients send to list, book and change appointments."""

from typing import Any

from marshmallow import pre_load

from servease_appt.api.schemas.bases import ChangeSchema, DayRange, RequestSchema
from servease_appt.api.schemas.fields import Choice, Clock, CommaSeparatedIds, Day, Id, Money, Text, Whole
from servease_appt.api.schemas.pages import LARGEST_PAGE_SIZE, PageQuery, page_number
from servease_appt.api.schemas.words import status_field, statuses_field, type_field
from servease_appt.appointments.records import Order
from servease_appt.scheduling.intervals import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES

STAFF_ONLY_ON_CREATE = ("assigned_employee_id", "internal_notes", "estimated_cost")
CUSTOMER_EDITABLE = ("service_description", "customer_notes")


def duration_field(**kwargs: Any) -> Whole:
    """Return a field for the length of an appointment."""
    return Whole(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES, **kwargs)


class AppointmentFilterQuery(PageQuery, DayRange):
    """The filters of a list of appointments, and its page."""

    status = statuses_field(metadata={"description": "One, or several with commas."})
    start_date = Day(metadata={"description": "The first scheduled date to show."})
    end_date = Day(metadata={"description": "The last scheduled date to show."})
    appointment_type = type_field()
    customer_id = Id()
    employee_id = Id(metadata={"description": "The assigned employee."})
    vehicle_id = Id()
    sort = Choice(
        [order.value for order in Order],
        load_default=Order.LATEST_FIRST.value,
        metadata={"description": "By the start, `-` for the latest first; ids break ties."},
    )


class AppointmentListQuery(AppointmentFilterQuery):
    """The filters of the list of all appointments, and its page."""

    ids = CommaSeparatedIds(
        LARGEST_PAGE_SIZE,
        metadata={
            "description": "Some appointments, with commas between their ids. What does not exist or is another"
            f" customer's is left out. Without `page_size` a page has up to {LARGEST_PAGE_SIZE} rows then."
        },
    )
    cursor = Text(
        longest=500,
        metadata={
            "description": "`*` for the first page; `next` and `previous` then have a cursor instead of a number."
            " What others insert or delete meanwhile moves no row to another page."
        },
    )

    @pre_load
    def _room_for_ids(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"page_size": LARGEST_PAGE_SIZE, **data} if "ids" in data else data


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


class AppointmentCreate(RequestSchema):
    """A booking."""

    customer_id = Id(required=True)
    vehicle_id = Id(required=True)
    appointment_type = type_field(required=True)
    scheduled_date = Day(required=True)
    scheduled_time = Clock(required=True)
    duration_minutes = duration_field()
    service_description = Text()
    customer_notes = Text()
    assigned_employee_id = Id(allow_none=True)
    internal_notes = Text()
    estimated_cost = Money(allow_none=True)


class AppointmentUpdate(ChangeSchema):
    """Changes to an appointment. What is left out stays as it is, for PUT as for PATCH."""

    service_description = Text()
    customer_notes = Text()
    appointment_type = type_field()
    duration_minutes = duration_field()
    internal_notes = Text()
    estimated_cost = Money(allow_none=True)


class AppointmentPatch(AppointmentUpdate):
    """Changes to an appointment. The last two fields are for the platform's own services."""

    status = status_field(metadata={"description": "The same as the action that leads to this status."})
    duration_seconds = Whole(metadata={"description": "How long the work took."})


class Reason(RequestSchema):
    """The reason of a change; it is kept in the history."""

    reason = Text(load_default="")


class Reschedule(Reason):
    """The new start."""

    new_date = Day(required=True)
    new_time = Clock(required=True)


class Assign(RequestSchema):
    """The employee who is to do the work."""

    employee_id = Id(required=True)
