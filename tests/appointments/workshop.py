"""Short words for what the tests do."""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, cast
from zoneinfo import ZoneInfo

from sqlalchemy import text

from servease_appt.appointments import booking, commands, reading
from servease_appt.appointments.actors import Actor, Role
from servease_appt.appointments.idempotency import KeptAnswer, RequestKey
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import ARRAY, Appointment, HistoryRow, NewAppointment
from servease_appt.appointments.reference_checks import ReferenceChecks, Services
from servease_appt.db.engine import Database
from servease_appt.scheduling.statuses import Action

NOW = datetime(2030, 5, 6, 8, 0, tzinfo=UTC)
"""A Monday."""

TODAY = NOW.date()
TUESDAY = date(2030, 5, 7)


def new_id() -> str:
    return str(uuid.uuid4())


def customer() -> Actor:
    return Actor(new_id(), Role.CUSTOMER)


ADMIN = Actor(new_id(), Role.ADMIN)
EMPLOYEE = Actor(new_id(), Role.EMPLOYEE)
SERVICE = Actor("", Role.SERVICE)


class NoChecks(ReferenceChecks):
    """References that are always right; `test_reference_checks` is about what the services say."""

    def check_booking(self, actor: Actor, **_: Any) -> Sequence[str]:  # noqa: ARG002
        return ()

    def check_employee(self, actor: Actor, employee_id: str) -> None:
        pass


REFERENCES = NoChecks(
    services=cast("Services", None), auth_token=None, timeout_s=1.0, on_unchecked=lambda _: None
)


def rendered(appointment: Appointment) -> KeptAnswer:
    """An answer that differs each time it is made."""
    return KeptAnswer(f"{appointment.id} {new_id()}", {"ETag": appointment.version})


class Workshop:
    """The use cases with everything filled in that a test does not care about."""

    def __init__(self, database: Database, *, capacity: int = 3, timezone: str = "UTC") -> None:
        self.database = database
        self.policy = BookingPolicy(
            default_capacity=capacity, default_duration_minutes=60, timezone=ZoneInfo(timezone)
        )
        self.references = REFERENCES

    def book(
        self,
        actor: Actor = ADMIN,
        *,
        day: date = TUESDAY,
        at: time = time(9),
        now: datetime = NOW,
        **values: Any,
    ) -> Appointment:
        values.setdefault("customer_id", new_id() if actor.is_staff else actor.user_id)
        values.setdefault("vehicle_id", new_id())
        values.setdefault("appointment_type", "repair")
        claim = values.pop("claim", None)
        request = NewAppointment(scheduled_date=day, scheduled_time=at, **values)
        return booking.create(
            self.database, self.policy, self.references, actor, request, now=now, claim=claim
        )

    def book_once(
        self,
        actor: Actor,
        request: RequestKey,
        *,
        at: time = time(9),
        now: datetime = NOW,
        render: Callable[[Appointment], KeptAnswer] = rendered,
    ) -> KeptAnswer:
        asked = NewAppointment(actor.user_id, new_id(), "repair", TUESDAY, at)
        return booking.book(
            self.database,
            self.policy,
            self.references,
            actor,
            asked,
            now=now,
            render=render,
            once=request,
        )

    def act(
        self,
        appointment: Appointment,
        *actions: Action,
        actor: Actor = ADMIN,
        reason: str = "",
        now: datetime = NOW,
    ) -> Appointment:
        for action in actions:
            appointment = commands.act(
                self.database, actor, appointment.id, action=action, reason=reason, now=now
            )
        return appointment

    def reschedule(
        self, appointment: Appointment, day: date, at: time, *, actor: Actor = ADMIN, reason: str = ""
    ) -> Appointment:
        return commands.reschedule(
            self.database,
            self.policy,
            actor,
            appointment.id,
            new_date=day,
            new_time=at,
            reason=reason,
            now=NOW,
        )

    def assign(self, appointment: Appointment, employee_id: str, *, actor: Actor = ADMIN) -> Appointment:
        return commands.assign(
            self.database, self.references, actor, appointment.id, employee_id=employee_id, now=NOW
        )

    def edit(
        self,
        appointment: Appointment,
        changes: dict[str, Any],
        *,
        actor: Actor = ADMIN,
        patch: bool = True,
        if_match: str | None = None,
    ) -> Appointment:
        return commands.edit(
            self.database,
            self.policy,
            actor,
            appointment.id,
            changes,
            now=NOW,
            patch=patch,
            if_match=if_match,
        )

    def get(self, appointment: Appointment, actor: Actor = ADMIN) -> Appointment:
        with self.database.reading() as connection:
            return reading.get_appointment(connection, actor, appointment.id)

    def history(self, appointment: Appointment) -> list[HistoryRow]:
        """Oldest first, also that of a deleted appointment."""
        with self.database.reading() as connection:
            page = reading.list_history(connection, ADMIN, appointment.id, ARRAY)
        return list(reversed(page.rows))

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Whatever the statement returns."""
        with self.database.transaction() as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []
