"""Short words for what the tests do."""

import uuid
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text

from servease_appt.appointments import commands, reading
from servease_appt.appointments import history as histories
from servease_appt.appointments.actors import Actor, Role
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import ARRAY, Appointment, HistoryRow, NewAppointment
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


class Workshop:
    """The use cases with everything filled in that a test does not care about."""

    def __init__(self, database: Database, *, capacity: int = 3, timezone: str = "UTC") -> None:
        self.database = database
        self.policy = BookingPolicy(
            default_capacity=capacity, default_duration_minutes=60, timezone=ZoneInfo(timezone)
        )

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
        return commands.book(self.database, self.policy, actor, request, now=now, claim=claim)

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
        return commands.assign(self.database, actor, appointment.id, employee_id, NOW)

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
            page = histories.list_history(connection, ADMIN, appointment.id, ARRAY)
        return list(reversed(page.rows))

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Whatever the statement returns."""
        with self.database.transaction() as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []
