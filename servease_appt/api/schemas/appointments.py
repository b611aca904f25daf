"""Appointments as clients get them: a row of a list, a page of rows, the detail, and the answer of an action."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from marshmallow import fields
from marshmallow.experimental.context import Context

from servease_appt.api.schemas.bases import AnswerSchema
from servease_appt.api.schemas.compiled import CompiledSchema, InlineField
from servease_appt.api.schemas.fields import Choice, Clock, Day, Id, Moment, Money, Text, Whole
from servease_appt.api.schemas.pages import PageSchema
from servease_appt.api.schemas.words import STATUSES, status_field, type_field


class AnswerContext(NamedTuple):
    """What a row alone does not say; entered as the marshmallow Context of a dump.

    Attributes:
        customers: the text to show for each customer of the answer, by id.
        vehicles: the same for its vehicles.
        employees: the same for its employees, and for None.
        now: returns the aware moment at which the request is answered.
        timezone: the time zone of dates and times.
    """

    customers: Mapping[str, str]
    vehicles: Mapping[str, str]
    employees: Mapping[str | None, str]
    now: Callable[[], datetime]
    timezone: ZoneInfo


class NameOf(InlineField):
    """The text that is shown for a reference. It is looked up for the whole answer before the dump."""

    def __init__(self, texts: str, reference: str, **kwargs: Any) -> None:
        """Describe where the text is.

        Args:
            texts: the attribute of `AnswerContext` that holds the texts.
            reference: the attribute of the row that holds the id.
            kwargs: as for every field.
        """
        super().__init__(**kwargs)
        self.texts = texts
        self.reference = reference
        self.expression = f"context.{texts}[row.{reference}]"

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return getattr(Context.get(), self.texts)[getattr(obj, self.reference)]


class AppointmentSchema(CompiledSchema):
    """One row of a list. Dumps an `AppointmentRow`."""

    id = Id()
    customer_id = Id()
    vehicle_id = Id()
    assigned_employee_id = Id(allow_none=True)
    appointment_type = type_field(others=True)
    scheduled_date = Day()
    scheduled_time = Clock()
    status = status_field(others=True)
    customer_name = NameOf(
        "customers", "customer_id", metadata={"description": "`Unknown` when it can't be had."}
    )
    vehicle_details = NameOf(
        "vehicles",
        "vehicle_id",
        metadata={"description": "Year, make and model; empty when they can't be had."},
    )
    employee_name = NameOf(
        "employees",
        "assigned_employee_id",
        metadata={"description": "`Unassigned` when there is none or it can't be had."},
    )


class AppointmentPageSchema(PageSchema):
    """A page of appointments."""

    results = fields.Nested(AppointmentSchema, many=True)


class Duration(fields.Field[str]):
    """`duration_seconds` of the same row, written as `HH:MM:SS`; 100 hours and more take more digits."""

    _CHECK_ATTRIBUTE = False

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        minutes, second = divmod(max(0, obj.duration_seconds), 60)
        hour, minute = divmod(minutes, 60)
        return f"{hour:02d}:{minute:02d}:{second:02d}"


class TimeUntil(fields.Field[str]):
    """The time until an appointment starts, in its largest whole unit."""

    _CHECK_ATTRIBUTE = False

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        context: AnswerContext = Context.get()
        start = datetime.combine(obj.scheduled_date, obj.scheduled_time, tzinfo=context.timezone)
        return time_until(start - context.now())


class AppointmentDetailSchema(AppointmentSchema):
    """Everything about one appointment. Dumps an `Appointment`."""

    duration_minutes = Whole()
    service_description = Text()
    customer_notes = Text()
    internal_notes = Text(metadata={"description": "Staff only: absent for customers.", "optional": True})
    estimated_cost = Money(allow_none=True)
    duration_seconds = Whole(metadata={"description": "How long the work took."})
    duration = Duration(metadata={"description": "`duration_seconds` as HH:MM:SS."})
    time_until_appointment = TimeUntil(metadata={"description": "In its largest whole unit, or `Past due`."})
    created_by_user_id = Id()
    created_at = Moment()
    updated_at = Moment()
    cancelled_at = Moment(allow_none=True)
    completed_at = Moment(allow_none=True)


class ActionSchema(AnswerSchema):
    """What an action answers."""

    status = Choice(
        [*STATUSES, "rescheduled", "assigned"],
        metadata={"description": "What was done: the new status, `rescheduled` or `assigned`."},
    )
    message = Text(metadata={"description": "The same as a sentence."})
    appointment = fields.Nested(AppointmentDetailSchema)


def time_until(left: timedelta) -> str:
    """Return the time left in its largest whole unit: "3 days", "1 hour", "15 minutes", or "Past due"."""
    if left < timedelta(0):
        return "Past due"
    if left.days:
        return _counted(left.days, "day")
    hours, minutes = divmod(left.seconds // 60, 60)
    return _counted(hours, "hour") if hours else _counted(minutes, "minute")


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
