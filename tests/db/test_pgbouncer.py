"""PgBouncer between the service and PostgreSQL, in transaction mode and otherwise as it comes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from servease_appt.app import create_app
from servease_appt.appointments import booking, reading
from servease_appt.appointments.actors import Actor, Role
from servease_appt.appointments.errors import RuleBroken
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import AppointmentFilters, NewAppointment, Window
from servease_appt.db import events, kept_counts
from servease_appt.db.connections import psycopg2_url
from servease_appt.db.engine import Database
from servease_appt.db.errors import Cause, DatabaseUnavailable
from servease_appt.db.migrate import upgrade
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.pgbouncer import PROGRAM, EmbeddedPgBouncer
from tests.appointments.workshop import REFERENCES
from tests.db.platform import known
from tests.support.dataset import Asker, Dataset, token, weekday
from tests.support.served import settings

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="pgbouncer is not installed (Debian: apt install pgbouncer)"
)

ADMIN = Actor(known(700), Role.ADMIN)
NOW = datetime(2030, 5, 6, 8, 30, tzinfo=UTC)
POLICY = BookingPolicy(default_capacity=2, default_duration_minutes=60, timezone=ZoneInfo("UTC"))
ODD_SESSIONS = """
    ALTER DATABASE "{name}" SET timezone = 'America/Sao_Paulo';
    ALTER DATABASE "{name}" SET datestyle = 'SQL, DMY';
"""
SETTINGS = ("statement_timeout", "lock_timeout", "timezone", "jit")


@pytest.fixture
def odd_url(postgres_url: str) -> str:
    """The test's database; the server's sessions have another time zone and date style."""
    with create_engine(psycopg2_url(postgres_url), poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql(ODD_SESSIONS.format(name=make_url(postgres_url).database))
    return postgres_url


@pytest.fixture
def bouncer_url(odd_url: str) -> Iterator[str]:
    """That database through a PgBouncer."""
    with EmbeddedPgBouncer(odd_url) as bouncer:
        yield bouncer.url


@pytest.fixture
def database(bouncer_url: str) -> Iterator[Database]:
    upgrade(bouncer_url)
    database = Database(bouncer_url)
    yield database
    database.close()


def request(at: int, customer: int) -> NewAppointment:
    return NewAppointment(known(customer), known(500), "repair", date(2030, 5, 7), time(at))


def test_the_service_works_through_it(database: Database) -> None:
    """Upgraded through it, ready, and booking, listing and acting as without it; moments are in UTC."""
    database.ping()
    booked = booking.create(database, POLICY, REFERENCES, ADMIN, request(9, 901), now=NOW)

    with database.reading() as connection:
        page = reading.list_appointments(connection, ADMIN, AppointmentFilters(), Window(10))
        found = reading.get_appointment(connection, ADMIN, booked.id)
    assert (page.count, page.rows[0].scheduled_date) == (1, "2030-05-07")
    assert (found.created_at, found.created_at.tzinfo) == (NOW, UTC)
    assert (found.scheduled_date, found.scheduled_time) == (date(2030, 5, 7), time(9))


def test_the_limits_hold_in_every_server_session(database: Database) -> None:
    """For statements alone and in transactions, and nothing of them stays behind in a session."""
    query = text("SELECT " + ", ".join(f"current_setting('{name}')" for name in SETTINGS))
    with database.reading() as connection:
        assert connection.execute(query).one() == ("3s", "2s", "UTC", "off")
    with database.transaction() as connection:
        assert connection.execute(query).one() == ("3s", "2s", "UTC", "off")
        idle = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar()
    assert idle == "5s"

    with database.reading() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        driver.settings = ""
        assert connection.execute(query).one()[:2] == ("0", "0")


def test_bookings_at_once_keep_the_capacity(database: Database) -> None:
    """The locks are those of transactions, so they hold across the pooler's sessions."""
    outcomes: list[str] = []

    def book(customer: int) -> None:
        try:
            booking.create(database, POLICY, REFERENCES, ADMIN, request(10, customer), now=NOW)
            outcomes.append("booked")
        except RuleBroken:
            outcomes.append("full")

    threads = [threading.Thread(target=book, args=(900 + n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["booked"] * 2 + ["full"] * 6


def test_session_options_are_refused_by_it_and_named(bouncer_url: str) -> None:
    """An operator's `options` need a pooler that passes them on; the cause says so."""
    database = Database(f"{bouncer_url}?options=-c%20work_mem%3D8MB")

    with pytest.raises(DatabaseUnavailable, match="options") as caught:
        database.ping()

    assert caught.value.cause is Cause.POOLER


def test_session_options_hold_where_it_ignores_them(odd_url: str) -> None:
    """With `ignore_startup_parameters = options` they still reach each statement: the schema and the limits."""
    with create_engine(psycopg2_url(odd_url), poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql('CREATE SCHEMA "own"')
    options = "?options=-csearch_path%3Down%20-c%20statement_timeout%3D1500ms"
    upgrade(odd_url + options)

    with EmbeddedPgBouncer(odd_url, {"ignore_startup_parameters": "options"}) as bouncer:
        database = Database(bouncer.url + options)
        query = text("SELECT current_setting('search_path'), current_setting('statement_timeout')")
        try:
            database.ping()
            with database.reading() as connection:
                assert connection.execute(query).one() == ("own", "1500ms")
            with database.transaction() as connection:
                assert connection.execute(query).one() == ("own", "1500ms")
            booking.create(database, POLICY, REFERENCES, ADMIN, request(9, 901), now=NOW)
        finally:
            database.close()


def test_the_api_works_through_it(odd_url: str, redis_url: str, fake_services: FakeServices) -> None:
    """What clients do from booking to deletion, and the periodic work, over fewer sessions than threads."""
    upgrade(odd_url)
    with EmbeddedPgBouncer(odd_url, {"default_pool_size": "2"}) as bouncer:
        app = create_app(Settings.from_mapping(settings(bouncer.url, redis_url, fake_services)))
        dataset = Dataset(app, fake_services)
        ada, database = dataset.ada, dataset.container.database
        try:
            days = {"start_date": weekday(3).isoformat(), "end_date": weekday(8).isoformat()}
            assert ada.post("/time-slots/bulk_create/", days).status_code == 201
            wanted, key = dataset.booking(), {"Idempotency-Key": "once"}
            first, again = (dataset.alice.post("/appointments/", wanted, headers=key) for _ in range(2))
            assert (first.status_code, again.get_json()) == (201, first.get_json())
            path = f"/appointments/{first.get_json()['id']}/"
            day, start = dataset.start_ahead()
            moved = {"new_date": day.isoformat(), "new_time": start.isoformat()}
            for action, body in (
                ("assign", {"employee_id": dataset.erin_id}),
                ("confirm", {}),
                ("reschedule", moved),
                ("start", {}),
                ("complete", {}),
            ):
                answer = ada.post(f"{path}{action}/", body)
                assert answer.status_code == 200, (action, answer.get_json())
            with ThreadPoolExecutor(8) as threads:
                asked = (Asker(app, token(user_role="admin")) for _ in range(16))
                statuses = list(threads.map(lambda one: one.get("/appointments/").status_code, asked))
            assert statuses == [200] * 16

            kept_counts.fold(database)
            events.publish(database)
            assert ada.get("/appointments/").get_json()["count"] == 1
            assert ada.get("/appointments/stats/").get_json()["completed"] == 1
            assert len(ada.get(f"{path}history/").get_json()) == 5
            assert len(ada.get("/appointments/changes/").get_json()["results"]) >= 5
            assert ada.get("/health/ready/").status_code == 200
            assert ada.delete(path).status_code == 204
            assert ada.get(path).status_code == 404
        finally:
            dataset.container.close()
