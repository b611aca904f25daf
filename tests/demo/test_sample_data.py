"""The demo's people and appointments."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import create_engine

from servease_appt.db.violations import violations
from servease_appt.demo.sample_data import DemoData
from servease_appt.scheduling.statuses import Status

MOMENTS = {
    "a Sunday night": datetime(2026, 11, 22, 23, 30, tzinfo=UTC),
    "a Wednesday noon": datetime(2026, 11, 25, 12, 20, tzinfo=UTC),
    "a leap day's morning": datetime(2028, 2, 29, 5, 0, tzinfo=UTC),
    "the turn of a year": datetime(2026, 12, 31, 15, 59, tzinfo=UTC),
}
COLOMBO = ZoneInfo("Asia/Colombo")


@pytest.mark.parametrize("now", MOMENTS.values(), ids=MOMENTS.keys())
def test_no_rule_is_broken(now: datetime, migrated_postgres_url: str) -> None:
    """Whenever the demo is started, the tables take its appointments and each rule of scheduling holds."""
    DemoData.make(now, COLOMBO).insert(migrated_postgres_url)

    engine = create_engine(migrated_postgres_url)
    with engine.connect() as connection:
        assert violations(connection, 3) == []
    engine.dispose()


@pytest.mark.parametrize("now", MOMENTS.values(), ids=MOMENTS.keys())
def test_what_there_is(now: datetime) -> None:
    """2,000 appointments around now of every kind, with gaps; the newest 20 refer to 60 known things."""
    data = DemoData.make(now, COLOMBO)
    rows = data.schedule.appointments
    people = data.people
    known = {entry["id"] for entry in [*people.customers, *people.employees, *people.vehicles]}
    names = ("customer_id", "vehicle_id", "assigned_employee_id")
    newest = sorted(rows, key=lambda row: (row["scheduled_date"], row["scheduled_time"]), reverse=True)[:20]
    references = {row[name] for row in rows for name in names}
    today = now.astimezone(COLOMBO).date()

    assert len(rows) == len({row["id"] for row in rows}) == 2000
    assert len({row[name] for row in newest for name in names} & known) == 60
    assert None in references
    assert 1 <= len(references - known - {None}) <= 6
    assert {"completed", "confirmed", "pending", "cancelled", "no_show"} <= {row["status"] for row in rows}
    assert {row["status"] for row in rows} <= set(Status)
    assert rows[0]["scheduled_date"] < today - timedelta(weeks=4)
    assert rows[-1]["scheduled_date"] > today + timedelta(weeks=3)
    assert any(row["scheduled_date"] == today for row in rows)
    assert all(row["created_at"] <= row["updated_at"] <= now for row in rows)


def test_who_is_who(migrated_postgres_url: str) -> None:
    """Every vehicle belongs to the customer of its appointment, and history ends in the appointment's status."""
    data = DemoData.make(MOMENTS["a Wednesday noon"], COLOMBO)
    owners = {vehicle["id"]: vehicle["customer_id"] for vehicle in data.people.vehicles}
    customers = {customer["id"] for customer in data.people.customers}
    last = {row["appointment_id"]: row["new_status"] for row in data.schedule.history}
    changes = Counter(row["appointment_id"] for row in data.schedule.history)

    for row in data.schedule.appointments:
        if row["vehicle_id"] in owners and row["customer_id"] in customers:
            assert owners[row["vehicle_id"]] == row["customer_id"]
        assert last.get(row["id"], "pending") == row["status"]
        assert changes[row["id"]] <= 3


def test_the_same_again() -> None:
    """The same moment gives the same data, down to the ids, so that a demo can be told of."""
    now = MOMENTS["a Wednesday noon"]

    assert DemoData.make(now, COLOMBO) == DemoData.make(now, COLOMBO)
