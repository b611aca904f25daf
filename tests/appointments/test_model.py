"""Any sequence of commands leaves the tables as a simple model says, and no rule broken."""

from datetime import date, time, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from servease_appt.appointments import commands, slots
from servease_appt.appointments.errors import RuleBroken
from servease_appt.appointments.records import Appointment, NewSlot
from servease_appt.db.engine import Database
from servease_appt.scheduling.statuses import Action, allowed_actions
from tests.appointments import invariants
from tests.appointments.workshop import ADMIN, TUESDAY, Workshop, new_id

CUSTOMERS = [new_id() for _ in range(3)]
EMPLOYEES = [new_id() for _ in range(2)]

days = st.integers(0, 1).map(lambda n: TUESDAY + timedelta(days=n))
times = st.builds(time, st.sampled_from([0, 9, 10, 23]), st.sampled_from([0, 15, 30, 45]))
lengths = st.sampled_from([15, 30, 60, 90, 180])


class Calendar(RuleBasedStateMachine):
    """Two days, three customers, two employees: small enough that everything collides."""

    database: Database
    appointments: Bundle[Appointment] = Bundle("appointments")

    @initialize()
    def empty(self) -> None:
        """A database without rows, and one slot that takes a single appointment."""
        self.workshop = Workshop(self.database, capacity=2)
        for table in ("appointments", "time_slots", "appointment_history"):
            self.workshop.sql(f"DELETE FROM {table}")  # noqa: S608
        slots.create_slot(
            self.database, self.workshop.policy, ADMIN, NewSlot(TUESDAY, time(9), time(10), True, 1)
        )
        self.statuses: dict[str, str] = {}
        self.history_rows: dict[str, int] = {}

    @rule(
        target=appointments,
        day=days,
        at=times,
        minutes=lengths,
        who=st.sampled_from(CUSTOMERS),
        employee=st.sampled_from([None, *EMPLOYEES]),
    )
    def book(self, day: date, at: time, minutes: int, who: str, employee: str | None) -> Any:
        """It gets in or is refused; refused, it leaves nothing."""
        try:
            booked = self.workshop.book(
                day=day, at=at, duration_minutes=minutes, customer_id=who, assigned_employee_id=employee
            )
        except RuleBroken:
            return multiple()
        self.statuses[booked.id] = "pending"
        self.history_rows[booked.id] = 0
        return booked

    @rule(appointment=appointments, action=st.sampled_from(list(Action)))
    def act(self, appointment: Appointment, action: Action) -> None:
        """The status follows the table; only a confirmation can be refused for another reason."""
        status = self.statuses.get(appointment.id)
        if status is None:
            return
        allowed = action in allowed_actions(status)
        try:
            self.workshop.act(appointment, action)
        except RuleBroken:
            assert not allowed or action is Action.CONFIRM
            return
        assert allowed
        self.statuses[appointment.id] = action.leads_to
        self.history_rows[appointment.id] += 1

    @rule(appointment=appointments, day=days, at=times)
    def reschedule(self, appointment: Appointment, day: date, at: time) -> None:
        """A move writes one history row; a move to where it is, none."""
        if appointment.id not in self.statuses:
            return
        before = self.workshop.get(appointment)
        try:
            after = self.workshop.reschedule(appointment, day, at)
        except RuleBroken:
            return
        self.history_rows[appointment.id] += after != before

    @rule(appointment=appointments, employee=st.sampled_from(EMPLOYEES))
    def assign(self, appointment: Appointment, employee: str) -> None:
        """Another employee writes one history row; the same one, none."""
        if appointment.id not in self.statuses:
            return
        before = self.workshop.get(appointment)
        try:
            after = self.workshop.assign(appointment, employee)
        except RuleBroken:
            return
        self.history_rows[appointment.id] += after != before

    @rule(appointment=appointments, minutes=lengths)
    def lengthen(self, appointment: Appointment, minutes: int) -> None:
        """A new length is checked and writes no history row."""
        if appointment.id not in self.statuses:
            return
        try:
            self.workshop.edit(appointment, {"duration_minutes": minutes})
        except RuleBroken:
            return

    @rule(appointment=appointments)
    def delete(self, appointment: Appointment) -> None:
        """Its history stays."""
        if self.statuses.pop(appointment.id, None) is not None:
            commands.delete(self.database, ADMIN, appointment.id)

    @invariant()
    def holds(self) -> None:
        """No rule is broken, and statuses and histories are those of the model."""
        with self.database.reading() as connection:
            assert invariants.all_broken(connection, 2) == []
        statuses = self.workshop.sql("SELECT id::text, status FROM appointments")
        counts = self.workshop.sql(
            "SELECT appointment_id::text, count(*) FROM appointment_history GROUP BY 1"
        )
        assert dict(statuses) == self.statuses
        assert dict(counts) == {row: n for row, n in self.history_rows.items() if n}


def test_any_sequence_of_commands(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis looks for one after which a rule is broken or a history row is missing or too many."""
    monkeypatch.setattr(Calendar, "database", database, raising=False)
    run_state_machine_as_test(
        Calendar,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
