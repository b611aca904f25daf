"""Least rights: one role owns the tables and upgrades them, another serves; as docs/database.md sets them up."""

import re
from collections.abc import Iterator
from datetime import date, time
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, NullPool, create_engine, make_url

from servease_appt.appointments import booking, commands, idempotency, reading, slots, statistics
from servease_appt.appointments.changes import list_changes
from servease_appt.appointments.idempotency import RequestKey
from servease_appt.appointments.records import AppointmentFilters, NewAppointment, Window
from servease_appt.db import events, kept_counts
from servease_appt.db.connections import psycopg2_url
from servease_appt.db.engine import Database
from servease_appt.db.errors import Cause, DatabaseUnavailable
from servease_appt.db.migrate import check, upgrade
from servease_appt.scheduling.statuses import Action
from tests.appointments.workshop import REFERENCES
from tests.db.platform import known
from tests.db.test_adoption import ADMIN, NOW, POLICY, run

GUIDE = Path(__file__).parents[2] / "docs" / "database.md"
ROLES, GRANTS = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.fixture
def admin(postgres_url: str) -> Iterator[Engine]:
    """The superuser's connection; takes the roles off again."""
    engine = create_engine(psycopg2_url(postgres_url), poolclass=NullPool)
    drop = "DROP OWNED BY servease_owner, servease_service; DROP ROLE servease_owner, servease_service"
    run(engine, ROLES)
    yield engine
    run(engine, drop)
    engine.dispose()


def role_url(postgres_url: str, name: str) -> str:
    password = re.findall(rf"ROLE {name} LOGIN PASSWORD '(.*?)'", ROLES)[0]
    url: URL = make_url(postgres_url).set(username=name, password=password)
    return url.render_as_string(hide_password=False)


def test_the_service_needs_no_rights_to_change_tables(admin: Engine, postgres_url: str) -> None:
    """Every kind of use works as the role that serves; upgrading does not."""
    owner, service = role_url(postgres_url, "servease_owner"), role_url(postgres_url, "servease_service")
    upgrade(owner)
    run(create_engine(psycopg2_url(owner), poolclass=NullPool), GRANTS)

    database = Database(service)
    database.ping()
    slots.bulk_create(database, POLICY, ADMIN, start_date=date(2030, 5, 7), end_date=date(2030, 5, 8))
    claim = idempotency.claim(database, ADMIN, RequestKey("key", b"{}"), NOW)
    wanted = NewAppointment(
        known(900), known(901), "repair", date(2030, 5, 7), time(10), assigned_employee_id=known(51)
    )
    booked = booking.create(database, POLICY, REFERENCES, ADMIN, wanted, now=NOW)
    commands.act(database, ADMIN, booked.id, action=Action.CONFIRM, reason="", now=NOW)
    commands.assign(database, REFERENCES, ADMIN, booked.id, employee_id=known(52), now=NOW)
    commands.edit(database, POLICY, ADMIN, booked.id, {"internal_notes": "seen"}, now=NOW)
    with database.reading() as connection:
        assert reading.list_appointments(connection, ADMIN, AppointmentFilters(), Window(10)).count == 1
        assert statistics.stats(connection, POLICY, ADMIN, NOW).total_appointments == 1
        assert kept_counts.sampled_differences(connection) == 0
    kept_counts.fold(database)
    assert len(list_changes(database, ADMIN, after=None, since=None, limit=10).events) == 4
    assert events.deliver(database, lambda _: None) == 4
    events.drop_old(database)
    commands.delete(database, ADMIN, booked.id)
    assert claim is not None
    database.close()

    assert check(owner).missing == ()
    as_service = Database(service)
    with pytest.raises(DatabaseUnavailable) as caught, as_service.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE appointments ADD COLUMN more int")
    as_service.close()
    assert caught.value.cause is Cause.RIGHTS


def test_readiness_needs_the_rights_of_this_version(admin: Engine, postgres_url: str) -> None:
    """A worker that was started before the GRANTs of its version is not ready."""
    owner = create_engine(psycopg2_url(role_url(postgres_url, "servease_owner")), poolclass=NullPool)
    upgrade(role_url(postgres_url, "servease_owner"))
    run(owner, GRANTS)
    database = Database(role_url(postgres_url, "servease_service"))
    database.ping()
    for table in re.findall(r"appointment_(?:counts|count_changes|events|events_state)\b", GRANTS):
        run(owner, f"REVOKE SELECT ON {table} FROM servease_service")  # noqa: S608 - of the guide
        with pytest.raises(DatabaseUnavailable) as caught:
            database.ping()
        assert caught.value.cause is Cause.RIGHTS
        run(owner, f"GRANT SELECT ON {table} TO servease_service")
    database.ping()
    database.close()


def test_an_upgrade_without_the_rights_says_so(admin: Engine, postgres_url: str) -> None:
    """In one line, and nothing is made."""
    with pytest.raises(DatabaseUnavailable) as caught:
        upgrade(role_url(postgres_url, "servease_service"))

    assert caught.value.cause is Cause.RIGHTS
