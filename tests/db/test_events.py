"""Booking events: written with each change by any writer, numbered in the order in which they become visible."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg2
import pytest

from servease_appt.appointments.changes import Changes, Position, list_changes
from servease_appt.appointments.errors import ChangesDropped
from servease_appt.db import events
from servease_appt.db.engine import Database
from servease_appt.scheduling.statuses import Action
from tests.appointments.workshop import ADMIN, TUESDAY, Workshop, customer, new_id
from tests.db.platform import appointment, known

ALL = 10_000


@pytest.fixture
def url(migrated_postgres_url: str) -> str:
    return migrated_postgres_url.replace("+psycopg2", "")


@pytest.fixture
def database(migrated_postgres_url: str) -> Iterator[Database]:
    database = Database(migrated_postgres_url, pool_size=20)
    yield database
    database.close()


@pytest.fixture
def workshop(database: Database) -> Workshop:
    return Workshop(database, capacity=1000)


def changes(database: Database, after: Position | None = None, **more: Any) -> Changes:
    given = {"actor": ADMIN, "since": None, "limit": ALL, **more}
    return list_changes(database, after=after, **given)


def test_every_kind_of_change_is_an_event(workshop: Workshop, database: Database) -> None:
    """One each, in the order of the changes, with the customer and the status; history or not."""
    owner = customer()
    booked = workshop.book(owner)
    workshop.assign(booked, new_id())
    workshop.act(booked, Action.CONFIRM)
    workshop.reschedule(booked, TUESDAY + timedelta(days=1), booked.scheduled_time)
    workshop.edit(booked, {"customer_notes": "x"}, actor=owner)
    workshop.sql("UPDATE appointments SET status = 'cancelled', customer_notes = 'y'")
    workshop.sql("UPDATE appointments SET status = status, customer_notes = customer_notes")
    workshop.sql("DELETE FROM appointments")

    found = changes(database).events

    assert [(event.event, event.status) for event in found] == [
        ("booked", "pending"),
        ("assigned", "pending"),
        ("confirmed", "confirmed"),
        ("rescheduled", "confirmed"),
        ("edited", "confirmed"),
        ("cancelled", "cancelled"),
        ("deleted", "cancelled"),
    ]
    assert {(event.appointment_id, event.customer_id) for event in found} == {(booked.id, owner.user_id)}
    assert [event.number for event in found] == list(range(1, 8))
    assert [event.occurred_at for event in found] == sorted(event.occurred_at for event in found)


def test_a_statement_of_another_writer_makes_an_event_for_each_row(
    workshop: Workshop, database: Database
) -> None:
    """Also if it changes ids; what is rolled back is no event."""
    for number in (1, 2, 3):
        workshop.sql(appointment(number))
    begun = changes(database).position
    workshop.sql("UPDATE appointments SET internal_notes = 'never'; ROLLBACK")
    workshop.sql("UPDATE appointments SET internal_notes = 'all' WHERE id <> CAST(:id AS uuid)", id=known(3))
    workshop.sql("UPDATE appointments SET id = CAST(:new AS uuid) WHERE id = :id", new=known(4), id=known(3))

    found = changes(database, begun).events

    assert {(event.event, event.appointment_id) for event in found} == {
        ("edited", known(1)),
        ("edited", known(2)),
        ("deleted", known(3)),
        ("booked", known(4)),
    }


def test_a_transaction_that_commits_late_is_not_skipped(url: str, database: Database) -> None:
    """Its events come after those that readers have seen meanwhile, though they were written before."""
    with closing(psycopg2.connect(url)) as late, closing(psycopg2.connect(url)) as early:
        late.cursor().execute(appointment(1))
        early.cursor().execute(appointment(2))
        early.commit()
        first = changes(database)
        late.commit()
        second = changes(database, first.position)

    assert [event.appointment_id for event in first.events] == [known(2)]
    assert [event.appointment_id for event in second.events] == [known(1)]
    assert second.position.number == 2


def test_a_reader_beside_writers_sees_each_event_once(url: str, database: Database) -> None:
    """Four writers whose transactions overlap, two who publish, and a reader who follows."""
    writers, each = 4, 25
    done = threading.Event()
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        with closing(psycopg2.connect(url)) as connection:
            for number in range(each):
                connection.cursor().execute(appointment(100 * writer + number))
                connection.cursor().execute("UPDATE appointments SET internal_notes = 'x' WHERE id = %s", [
                    known(100 * writer + number)
                ])  # fmt: skip
                connection.commit()

    def publish() -> None:
        while not done.is_set():
            events.publish(database)

    def run(work: Any, *given: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*given)
            except BaseException as error:
                failures.append(error)
                raise

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    publishers = [run(publish) for _ in range(2)]
    threads = [run(write, writer + 1) for writer in range(writers)]
    seen: list[events.BookingEvent] = []
    after = Position(0, 0)
    while any(thread.is_alive() for thread in threads):
        found = changes(database, after, limit=7)
        seen += found.events
        after = found.position
    done.set()
    for thread in publishers + threads:
        thread.join()
    seen += changes(database, after).events

    assert failures == []
    assert [event.number for event in seen] == list(range(1, 2 * writers * each + 1))
    for number in {event.appointment_id for event in seen}:
        assert [event.event for event in seen if event.appointment_id == number] == ["booked", "edited"]


def test_a_large_backlog_is_published_in_parts(
    workshop: Workshop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction has a time limit; a reader goes on until there is no more."""
    monkeypatch.setattr(events, "_BATCH", 3)
    for number in range(8):
        workshop.sql(appointment(number))

    parts = []
    after = None
    while True:
        found = changes(database, after, limit=2)
        parts.append(len(found.events))
        after = found.position
        if not found.has_more:
            break

    assert sum(parts) == 8
    assert max(parts) == 2


def test_since_a_moment(workshop: Workshop, database: Database) -> None:
    """Everything that became visible then or later; nothing of before."""
    workshop.sql(appointment(1))
    changes(database)
    (moment,) = workshop.sql("SELECT clock_timestamp()")[0]
    workshop.sql(appointment(2))

    assert [event.appointment_id for event in changes(database, since=moment).events] == [known(2)]
    assert len(changes(database, since=moment - timedelta(days=1)).events) == 2
    later = changes(database, since=moment + timedelta(days=1))
    assert (later.events, later.position.number, later.has_more) == ([], 2, False)


def test_old_events_are_dropped_and_readers_are_told(workshop: Workshop, database: Database) -> None:
    """Who has seen the last one dropped goes on; who has not has to read everything again."""
    for number in (1, 2, 3):
        workshop.sql(appointment(number))
        events.publish(database)
    old = events.KEPT + timedelta(minutes=1)
    workshop.sql("UPDATE appointment_events SET published_at = published_at - :old WHERE number < 3", old=old)
    events.drop_old(database)
    events.drop_old(database)

    assert [event.number for event in changes(database, Position(2, 0)).events] == [3]
    assert [event.number for event in changes(database).events] == [3]
    (moment,) = workshop.sql("SELECT clock_timestamp()")[0]
    assert len(changes(database, since=moment - timedelta(days=1)).events) == 1
    for missed in (
        {"after": Position(1, 0)},
        {"after": Position(4, 0)},
        {"after": None, "since": moment - 2 * old},
    ):
        with pytest.raises(ChangesDropped):
            changes(database, **missed)


def test_numbers_go_on_after_a_restore_without_the_state(workshop: Workshop, database: Database) -> None:
    """The events are there, and the table of one row was not overwritten."""
    workshop.sql(appointment(1))
    changes(database)
    workshop.sql("UPDATE appointment_events_state SET last_number = 0, last_published_at = '-infinity'")
    workshop.sql(appointment(2))

    assert [event.number for event in changes(database).events] == [1, 2]
