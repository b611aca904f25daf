"""The functions for code that runs in an application: what they give, also when something is away."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask import Flask

from servease_appt.app import create_app
from servease_appt.cache import CacheUnavailable, Mode
from servease_appt.container import EXTENSION
from servease_appt.references import (
    get_customer_cached,
    get_employee_cached,
    get_vehicle_cached,
    invalidate_customer_cache,
    invalidate_employee_cache,
    invalidate_vehicle_cache,
)
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeService, FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.dataset import SECRET, new_id, token

Get = Callable[..., dict[str, Any]]
CALLER = token()
OTHER_FIELDS: dict[str, dict[str, Any]] = {
    "customer": {"full_name": "Alice Ant", "email": "alice@example.com"},
    "vehicle": {"year": 2020, "make": "Toyota", "model": "Axio"},
    "employee": {"full_name": "Eve Elm"},
}
PLACEHOLDERS: dict[str, dict[str, Any]] = {
    "customer": {"full_name": "Unknown", "email": ""},
    "vehicle": {"year": "", "make": "", "model": ""},
    "employee": {"full_name": "Unassigned"},
}
FUNCTIONS: list[tuple[str, Get, Callable[..., None]]] = [
    ("customer", get_customer_cached, invalidate_customer_cache),
    ("vehicle", get_vehicle_cached, invalidate_vehicle_cache),
    ("employee", get_employee_cached, invalidate_employee_cache),
]
each = pytest.mark.parametrize(("entity", "get", "invalidate"), FUNCTIONS, ids=[row[0] for row in FUNCTIONS])


def inside(redis_url: str, fake_services: FakeServices) -> Iterator[Flask]:
    app = create_app(
        Settings.from_mapping(
            {
                "SECRET_KEY": SECRET,
                "DATABASE_URL": "postgresql://127.0.0.1:1/none",
                "REDIS_URL": redis_url,
                **fake_services.settings,
            }
        )
    )
    with app.app_context():
        yield app
    app.extensions[EXTENSION].close()


@pytest.fixture(autouse=True)
def app(redis_url: str, fake_services: FakeServices) -> Iterator[Flask]:
    """The application whose context the test runs in."""
    yield from inside(redis_url, fake_services)


def service(fake_services: FakeServices, entity: str) -> FakeService:
    """The fake that knows this entity."""
    return {service.kind: service for service in fake_services.all}[entity]


def known(fake_services: FakeServices, entity: str) -> str:
    """Let the service know one more; its id."""
    owner = {"customer_id": new_id()} if entity == "vehicle" else {}
    id_ = new_id()
    service(fake_services, entity).put({"id": id_, **OTHER_FIELDS[entity], **owner})
    return id_


@each
def test_a_record_is_what_lies_in_redis(
    fake_services: FakeServices, entity: str, get: Get, invalidate: Callable[..., None]
) -> None:
    """The id and the fields of the entity, fetched once with the caller's token; the dict is the caller's own."""
    id_ = known(fake_services, entity)

    first = get(id_, auth_token=CALLER)
    first["id"] = "changed by its owner"

    assert get(id_, CALLER) == {"id": id_, **OTHER_FIELDS[entity]}
    assert fake_services.total_calls() == 1
    assert service(fake_services, entity).tokens() == {CALLER}
    invalidate(id_)
    get(id_, CALLER)
    assert fake_services.total_calls() == 2


def test_a_very_long_name_is_cached_like_any_other(fake_services: FakeServices, redis_url: str) -> None:
    """It is cut once, when it is loaded: a worker that finds it in Redis shows it and asks nobody."""
    id_ = new_id()
    fake_services.customers.put({"id": id_, "full_name": "x" * 3000, "email": "x@example.com"})
    shown = {"id": id_, "full_name": "x" * 1000, "email": "x@example.com"}

    assert get_customer_cached(id_, CALLER) == shown
    for _another_worker in inside(redis_url, fake_services):
        assert get_customer_cached(id_, CALLER) == shown
    assert fake_services.total_calls() == 1


@each
def test_an_id_may_be_a_uuid_or_written_in_capitals(
    fake_services: FakeServices, entity: str, get: Get, invalidate: Callable[..., None]
) -> None:
    """ORMs hand out UUID objects; each spelling is the same key, also for an invalidation."""
    id_ = known(fake_services, entity)
    spellings = (uuid.UUID(id_), id_.upper(), id_)

    assert all(get(spelling, CALLER) == {"id": id_, **OTHER_FIELDS[entity]} for spelling in spellings)
    assert fake_services.total_calls() == 1
    for calls, spelling in enumerate(spellings, start=2):
        invalidate(spelling)
        get(id_, CALLER)
        assert fake_services.total_calls() == calls


@each
@pytest.mark.parametrize("rule", [{}, {"status": 500}, {"status": 403}, {"drop": True}, {"body": "[]"}])
def test_what_can_not_be_had_is_the_placeholder(
    fake_services: FakeServices, entity: str, get: Get, invalidate: Callable[..., None], rule: dict[str, Any]
) -> None:
    """No such record, a service that fails, denies or talks nonsense: nothing is raised, a dict is returned."""
    id_ = uuid.uuid4()
    if rule:
        service(fake_services, entity).rule(**rule)

    assert get(id_, CALLER) == {"id": str(id_), **PLACEHOLDERS[entity]}


@each
def test_what_is_no_uuid_is_asked_of_nobody(
    fake_services: FakeServices, entity: str, get: Get, invalidate: Callable[..., None]
) -> None:
    """It would become a part of a URL and of a key."""
    for function in (get, invalidate):
        with pytest.raises(ValueError, match="is no UUID"):
            function("../../admin")
    assert fake_services.total_calls() == 0


@each
def test_without_redis_reading_goes_on_and_invalidating_raises(
    own_valkey: EmbeddedValkey,
    fake_services: FakeServices,
    entity: str,
    get: Get,
    invalidate: Callable[..., None],
) -> None:
    """An invalidation that Redis did not take must not look like one; this worker drops its own all the same."""
    id_ = known(fake_services, entity)
    for _ in inside(own_valkey.url(1), fake_services):
        get(id_, CALLER)
        own_valkey.kill()

        with pytest.raises(CacheUnavailable):
            invalidate(id_)

        calls = fake_services.total_calls()
        assert get(id_, CALLER) == {"id": id_, **OTHER_FIELDS[entity]}
        assert fake_services.total_calls() == calls + 1


@pytest.mark.parametrize(
    "message",
    [
        "customer_{}",
        "appointment_service:customer_{}",
        '{{"keys": ["customer_{}"]}}',
        '{{"keys": [5, "customer_{}"]}}',
    ],
)
def test_a_message_may_spell_an_id_in_capitals(
    app: Flask, fake_services: FakeServices, redis_url: str, message: str
) -> None:
    """Some languages print UUIDs so; such a message must not leave the old value where it is."""
    id_ = known(fake_services, "customer")
    cache = app.extensions[EXTENSION].lookups.cache
    cache.start()
    assert wait_until(lambda: cache.mode is Mode.BOTH, timeout_s=30)
    get_customer_cached(id_, CALLER)
    with redis.Redis.from_url(redis_url) as client:
        client.publish("appointment_service:invalidate", message.format(id_.upper()))

        assert wait_until(lambda: not client.keys(f"*{id_}*"), timeout_s=30)
    assert not cache.l1.held((f"customer_{id_}",))


@each
def test_an_invalidation_takes_it_out_of_redis(
    fake_services: FakeServices, redis_url: str, entity: str, get: Get, invalidate: Callable[..., None]
) -> None:
    """The value and its last known copy; nothing is left that has the id in its name."""
    id_ = known(fake_services, entity)
    get(id_, CALLER)
    with redis.Redis.from_url(redis_url) as client:
        assert client.exists(f"appointment_service:{entity}_{id_}")

        invalidate(id_)

        assert not client.keys(f"*{id_}*")
