"""What released versions wrote, read by the present code; what the present code sends, read by theirs.

The recordings are made by `python -m tests.upgrade` from the versions' own code on real servers.
"""

import importlib.util
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import text

from servease_appt import (
    get_customer_cached,
    get_employee_cached,
    get_vehicle_cached,
    invalidate_customer_cache,
)
from servease_appt.app import create_app
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.messages import STARTS, Invalidation, decode, own_message_parts
from servease_appt.cache.worker_queries import WorkerQueries
from servease_appt.container import EXTENSION
from servease_appt.db.engine import Database
from servease_appt.db.versions import VERSIONS
from servease_appt.inspection.workers import (
    query_acknowledgements,
    query_entry,
    query_statuses,
    read_events,
    registered_workers,
)
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from tests.support.dataset import Asker, token
from tests.support.served import settings
from tests.upgrade.releases import COMMITS, recording

PREFIX = "appointment_service"
each_version = pytest.mark.parametrize("version", COMMITS)


def recorded(version: str) -> Any:
    """Return what a version wrote."""
    return json.loads(recording(version).read_text())


@pytest.fixture
def app(migrated_postgres_url: str, redis_url: str, fake_services: FakeServices) -> Iterator[Flask]:
    """The present service, which reads from Redis alone; the services that it asks know nothing."""
    environment = settings(migrated_postgres_url, redis_url, fake_services, CACHE_L1_TIMEOUT="0")
    app = create_app(Settings.from_mapping(environment))
    yield app
    app.extensions[EXTENSION].close()


@pytest.fixture
def server(redis_url: str) -> Iterator[Redis]:
    """The service's Redis."""
    with Redis.from_url(redis_url) as client:
        yield client


def put_back(server: Redis, keys: dict[str, Any]) -> None:
    """Store the recorded keys, which expire after a minute."""
    for name, value in keys.items():
        if isinstance(value, dict):
            server.hset(name, mapping=value)
        else:
            server.set(name, value, px=60_000)


def read_all(app: Flask, ids: dict[str, str]) -> list[dict[str, Any]]:
    """Return the three names and the unknown one as the service's code gets them."""
    with app.app_context():
        return [
            get_customer_cached(ids["customer"], "any"),
            get_vehicle_cached(ids["vehicle"], "any"),
            get_employee_cached(ids["employee"], "any"),
            get_customer_cached(ids["unknown"], "any"),
        ]


@each_version
def test_stored_values_are_hits(version: str, app: Flask, server: Redis, fake_services: FakeServices) -> None:
    """Values, stale copies and remembered 404s: no service is asked for what an older worker has stored."""
    old = recorded(version)
    keys, ids = old["keys"], old["ids"]
    names = [f"{PREFIX}:{kind}_{ids[kind]}" for kind in ("customer", "vehicle", "employee")]
    stored = [json.loads(keys[name]) for name in names]
    put_back(server, keys)

    assert read_all(app, ids)[:3] == stored
    assert read_all(app, ids)[3]["full_name"] == "Unknown"
    assert fake_services.total_calls() == 0

    server.delete(*names)  # the stale copies stay
    for service in fake_services.all:
        service.rule(status=500)
    assert read_all(app, ids)[:3] == stored
    assert fake_services.total_calls() > 0


@each_version
def test_an_invalidation_ends_a_load_of_an_older_worker(version: str, app: Flask, server: Redis) -> None:
    """Its lease is the fence without which it stores nothing, and it is deleted with the value."""
    customer = recorded(version)["ids"]["customer"]
    lease = f"{PREFIX}:__lease:{{{PREFIX}:customer_{customer}}}"
    server.set(lease, recorded(version)["lease"], px=60_000)
    with app.app_context():
        invalidate_customer_cache(customer)
    assert not server.exists(lease)


@each_version
def test_the_sequence_goes_on(version: str, app: Flask, server: Redis) -> None:
    """The present code counts on from an older version's number, and announces the next one."""
    number = int(recorded(version)["sequence"])
    server.set(f"{PREFIX}:__seq", number)
    with app.app_context():
        invalidate_customer_cache(recorded(version)["ids"]["customer"])
    assert server.get(f"{PREFIX}:__seq") == str(number + 1).encode()


@each_version
def test_its_messages_are_read(version: str) -> None:
    """Each of them, as what it was."""
    messages = recorded(version)["messages"][f"{PREFIX}:invalidate"]
    read = [decode(message.encode(), PREFIX) for message in messages]
    assert {(bool(one.keys), one.pattern) for one in read} == {
        (True, None),
        (False, "vehicle_*"),
        (False, "employee_*"),
    }
    for message, one in zip(messages, read, strict=True):
        sent = json.loads(message) if message.startswith("{") else {"keys": [message]}
        assert (list(one.keys), one.pattern) == (sent.get("keys", []), sent.get("pattern"))
        assert (one.source, one.sequence) == (sent.get("source"), sent.get("seq"))
        assert not one.unreadable


@each_version
@pytest.mark.parametrize(
    "sent",
    [
        Invalidation(keys=("customer_1", "vehicle_2"), source="host:1:ab"),
        Invalidation(pattern="customer_*", source="host:1:ab"),
        Invalidation(pattern="customer_*", source="host:1:ab", began=STARTS),
        Invalidation(pattern="customer_*", source="host:1:ab", began=1_795_570_573_067_369),
    ],
)
def test_its_own_code_reads_the_present_messages(
    version: str, sent: Invalidation, code_of: Callable[[str], Path]
) -> None:
    """Every form that is sent today; what a version does not know of it is ignored."""
    before, after = own_message_parts(sent)
    read = messages_of(code_of(version)).decode(f"{before}1795570573067370{after}".encode(), PREFIX)
    assert (read.keys, read.pattern, read.source) == (sent.keys, sent.pattern, sent.source)
    assert (read.sequence, read.unreadable) == (1_795_570_573_067_370, 0)


def messages_of(code: Path) -> ModuleType:
    """Import the module of a released version that reads messages. It needs nothing but the standard library."""
    path = code / "servease_appt/cache/messages.py"
    spec = importlib.util.spec_from_file_location("released_messages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


@each_version
def test_its_workers_are_listed(version: str, server: Redis) -> None:
    """The register has the same form."""
    register = recorded(version)["keys"][f"{PREFIX}:__workers"]
    put_back(server, {f"{PREFIX}:__workers": register})
    ((identity, worker),) = registered_workers(WorkerQueries(server, KeySpace(PREFIX))).items()
    assert identity in register
    assert asdict(worker).items() <= json.loads(register[identity]).items()


@each_version
def test_its_events_are_shown(version: str) -> None:
    """By `cache monitor`, as its own showed them."""
    for message in recorded(version)["messages"][f"{PREFIX}:__events"]:
        published = json.loads(message)
        read = read_events(published)
        assert read is not None
        assert read[0] == published["worker"]
        assert [asdict(event) for event in read[1]] == published["events"]


@contextmanager
def answering(server: Redis, answers: dict[str, str]) -> Iterator[None]:
    """Answer the queries of the present version as an older worker did, until the block ends."""
    ended = threading.Event()

    def answer() -> None:
        while not ended.is_set():
            message = queries.get_message(ignore_subscribe_messages=True, timeout=0.05)
            query = json.loads(message["data"]) if message else {}
            if query.get("what") in answers:
                server.publish(query["reply_to"], answers[query["what"]])

    with server.pubsub() as queries:  # type: ignore[no-untyped-call]
        queries.subscribe(f"{PREFIX}:__ask")
        queries.get_message(timeout=10)
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def test_answers_of_the_previous_version_are_read(server: Redis) -> None:
    """Present commands show its workers: their state, what they hold of a key, what they have handled."""
    messages = recorded("0.2.0")["messages"]
    asked = [json.loads(query)["what"] for query in messages[f"{PREFIX}:__ask"]]
    answers = dict(zip((w for w in asked if w != "watch"), messages[f"{PREFIX}:__reply:"], strict=True))
    ((identity, _),) = recorded("0.2.0")["keys"][f"{PREFIX}:__workers"].items()
    queries = WorkerQueries(server, KeySpace(PREFIX))
    with answering(server, answers):
        for found in (
            query_statuses(queries, 10),
            query_entry(queries, "customer_1", 10),
            query_acknowledgements(queries, 10),
        ):
            assert ([one.worker for one in found.readable], found.unreadable) == ([identity], 0)


def test_queries_of_the_previous_version_are_answered(app: Flask, server: Redis) -> None:
    """With all that its own workers answered, so that its commands work in the middle of an upgrade.

    0.1.0 read its answers from a list: its commands say of newer workers that they do not answer.
    """
    messages = recorded("0.2.0")["messages"]
    cache = app.extensions[EXTENSION].lookups.cache
    cache.start()
    assert wait_until(lambda: WorkerQueries(server, KeySpace(PREFIX)).listeners() == 1, timeout_s=20)
    asked = [json.loads(query) for query in messages[f"{PREFIX}:__ask"]]
    answered = [json.loads(answer) for answer in messages[f"{PREFIX}:__reply:"]]
    with server.pubsub() as replies:  # type: ignore[no-untyped-call]
        for query, old in zip((q for q in asked if q["what"] != "watch"), answered, strict=True):
            replies.subscribe(query["reply_to"])
            replies.get_message(timeout=10)
            server.publish(f"{PREFIX}:__ask", json.dumps(query))
            message = replies.get_message(timeout=10)
            assert message is not None, query
            assert set(old) <= set(json.loads(message["data"])), query["what"]
            replies.unsubscribe()
            replies.get_message(timeout=10)


@each_version
def test_a_booking_and_its_tag_outlive_the_upgrade(version: str, app: Flask) -> None:
    """A tag that an older version gave out is that of the row, until the row changes."""
    old = recorded(version)
    restore_rows(app, old)
    row = old["postgres"]["appointment"]
    staff = Asker(app, token(user_role="employee"))
    path = f"/appointments/{row['id']}/"
    tag = {"If-Match": old["http"]["etag"]}
    assert staff.ask("PATCH", path, tag, json={"internal_notes": "x"}).status_code == 200
    assert staff.ask("PATCH", path, tag, json={"internal_notes": "y"}).status_code == 412


@pytest.mark.parametrize(("version", "status"), [("0.1.0", 422), ("0.2.0", 201)])
def test_a_booking_that_is_sent_again_is_not_booked_twice(version: str, status: int, app: Flask) -> None:
    """The stored answer is given; a key of 0.1.0 is refused, since that did not note the caller's role."""
    old = recorded(version)
    restore_rows(app, old)
    row = old["postgres"]["appointment"]
    caller = Asker(app, token(user_id=old["postgres"]["idempotency_key"]["user_id"], user_role="admin"))
    again = caller.ask(
        "POST",
        "/appointments/",
        {"Idempotency-Key": "recorded", "Content-Type": "application/json"},
        data=old["http"]["booking"],
    )
    assert again.status_code == status
    assert again.status_code == 422 or again.get_json()["id"] == row["id"]
    assert caller.get("/appointments/").get_json()["count"] == 1


@each_version
def test_its_tables_can_be_upgraded(version: str) -> None:
    """The present code knows the version of the tables that it made."""
    assert recorded(version)["postgres"]["version"] in VERSIONS


def restore_rows(app: Flask, old: dict[str, Any]) -> None:
    """Insert the recorded rows; the key is as young as it was."""
    database = cast("Database", app.extensions[EXTENSION].database)
    with database.transaction() as connection:
        for table, name in (("appointments", "appointment"), ("idempotency_keys", "idempotency_key")):
            connection.execute(
                text(f"INSERT INTO {table} SELECT * FROM json_populate_record(NULL::{table}, :row)"),  # noqa: S608
                {"row": json.dumps(old["postgres"][name])},
            )
        connection.execute(text("UPDATE idempotency_keys SET expires_at = now() + INTERVAL '1 day'"))
