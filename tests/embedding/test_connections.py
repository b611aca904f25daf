"""A host's own engine and Redis client: used, left as they were, and never closed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from redis import Redis, RedisCluster
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import IntegrityError

from servease_appt import ServEase
from servease_appt.cache import Mode
from servease_appt.container import EXTENSION, Container
from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.host_connections import client_url, engine_url
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.embedding.conftest import PREFIX
from tests.support.dataset import Dataset, token

ADMIN = {"Authorization": f"Bearer {token(user_role='admin')}"}
SESSION = text(
    "SELECT current_setting('timezone'), current_setting('statement_timeout'), current_setting('datestyle'),"
    " current_setting('transaction_isolation')"
)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A host's pool of one connection, in a time zone of its own."""
    engine = create_engine(
        database_url,
        isolation_level="REPEATABLE READ",
        pool_size=1,
        max_overflow=0,
        pool_timeout=1,
        connect_args={"options": "-c timezone=Asia/Colombo -c datestyle=SQL"},
    )
    yield engine
    engine.dispose()


@pytest.fixture
def client(valkey: EmbeddedValkey) -> Iterator[Redis]:
    """A host's client, on another database than the service's own."""
    with Redis.from_url(valkey.url(3)) as client:
        client.flushdb()
        yield client


@pytest.fixture
def host(new_host: Callable[..., Flask], engine: Engine, client: Redis) -> Flask:
    """A host that gives both, and neither URL."""
    host = new_host(SERVEASE_DATABASE_URL=None, SERVEASE_REDIS_URL=None)
    ServEase().init_app(host, url_prefix=PREFIX, engine=engine, redis=client)
    return host


def test_both_are_used(host: Flask, engine: Engine, client: Redis, fake_services: FakeServices) -> None:
    """Rows come over the engine's connection, names are kept in the client's database."""
    made: list[object] = []
    event.listen(engine, "connect", lambda connection, _: made.append(connection))
    dataset = Dataset(host, fake_services)
    dataset.clear()
    appointment_id = dataset.appointment()

    page = host.test_client().get(f"{PREFIX}/appointments/", headers=ADMIN).get_json()

    assert [row["id"] for row in page["results"]] == [appointment_id]
    assert page["results"][0]["customer_name"] == "Alice Ant"
    assert len(made) == 1
    assert client.exists(f"appointment_service:customer_{dataset.alice_id}")


@pytest.mark.parametrize("options", [{}, {"protocol": 3}])
def test_both_tiers_serve_over_a_hosts_client(
    new_host: Callable[..., Flask], valkey: EmbeddedValkey, options: dict[str, Any]
) -> None:
    """Invalidations are listened for over it, too."""
    host = new_host(SERVEASE_REDIS_URL=None)
    with Redis.from_url(valkey.url(3), **options) as client:
        ServEase().init_app(host, url_prefix=PREFIX, redis=client)
        cache = host.extensions[EXTENSION].lookups.cache
        cache.start()

        assert wait_until(lambda: cache.mode is Mode.BOTH, timeout_s=10)
        assert host.test_client().get(f"{PREFIX}/health/ready/").get_json()["status"] == "ready"


def test_the_hosts_next_user_finds_the_session_as_it_was(host: Flask, engine: Engine) -> None:
    """Time limits, time zone and isolation hold for our transactions and no longer, also for failed ones."""
    container: Container = host.extensions[EXTENSION]
    with engine.connect() as connection:
        before = tuple(connection.execute(SESSION).one())

    with container.database.transaction() as connection:
        assert tuple(connection.execute(SESSION).one()) == ("UTC", "3s", "ISO, MDY", "read committed")
    with container.database.reading() as connection:
        assert tuple(connection.execute(SESSION).one()) == ("UTC", "3s", "ISO, MDY", "read committed")
    with pytest.raises(ZeroDivisionError), container.database.transaction() as connection:
        raise ZeroDivisionError

    with engine.connect() as connection:
        assert tuple(connection.execute(SESSION).one()) == before
    assert before[0] == "Asia/Colombo"


def test_an_error_shows_no_row_and_no_parameter(host: Flask, engine: Engine) -> None:
    """Its text goes into a log; PostgreSQL's own adds the row that broke a constraint."""
    container: Container = host.extensions[EXTENSION]
    notes = "allergic to nuts"
    row = text("INSERT INTO appointments (id, customer_notes) VALUES (gen_random_uuid(), :notes)")

    with pytest.raises(IntegrityError) as caught, container.database.transaction() as connection:
        connection.execute(row, {"notes": notes})

    assert "null value" in str(caught.value)
    assert notes not in str(caught.value) + str(caught.value.orig)
    with engine.connect() as connection, pytest.raises(IntegrityError, match=notes):
        connection.execute(row, {"notes": notes})  # the host's own errors are as they were


def test_a_pool_that_the_host_has_used_up_is_a_503(host: Flask, engine: Engine) -> None:
    """How long it is waited for is the engine's own setting."""
    container: Container = host.extensions[EXTENSION]
    with engine.connect():
        answer = host.test_client().get(f"{PREFIX}/appointments/", headers=ADMIN)
        with pytest.raises(DatabaseUnavailable), container.database.transaction():
            pass

    assert answer.status_code == 503


def test_closing_the_service_closes_neither(host: Flask, engine: Engine, client: Redis) -> None:
    """Both have idle connections before, and the same ones after."""
    host.test_client().get(f"{PREFIX}/appointments/", headers=ADMIN)
    mine = client.client_id()
    with engine.connect() as connection:
        backend = connection.execute(text("SELECT pg_backend_pid()")).scalar()

    host.extensions[EXTENSION].close()

    assert client.client_id() == mine
    with engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() == backend


def test_commands_reach_the_same_servers(host: Flask, client: Redis) -> None:
    """They connect by themselves, where the engine and the client do."""
    client.set("appointment_service:customer_x", "{}")
    run = host.test_cli_runner().invoke

    assert "customer_x" in run(args=["servease", "cache", "keys"]).output
    current = run(args=["servease", "db", "current"])
    assert current.exit_code == 0, current.output


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"engine": create_engine("sqlite://")}, ValueError, "it must be postgresql.psycopg2"),
        ({"redis": Redis(decode_responses=True)}, ValueError, "decode_responses=True"),
        ({"redis": Redis(protocol=2)}, ValueError, "protocol=2"),
        ({"redis": "redis://localhost"}, TypeError, "redis= is a str"),
        ({"redis": RedisCluster}, TypeError, "must be a redis.Redis"),
    ],
)
def test_what_can_not_be_used_is_refused_at_once(
    new_host: Callable[..., Flask], given: dict[str, Any], kind: type[Exception], said: str
) -> None:
    """With one sentence that says what would do; the host is as it was."""
    host = new_host()
    with pytest.raises(kind, match=said):
        ServEase().init_app(host, **given)
    assert EXTENSION not in host.extensions


def test_a_schema_is_not_set_on_an_engine_of_the_host(new_host: Callable[..., Flask], engine: Engine) -> None:
    """Its `search_path` is the host's: the tables would be looked for in one place and made in another."""
    host = new_host(SERVEASE_DATABASE_SCHEMA="servease")
    with pytest.raises(ValueError, match="DATABASE_SCHEMA can't be used with engine="):
        ServEase().init_app(host, engine=engine)


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache:6379/3",
        "redis://u:p%40%2F@cache:6380/0",
        "redis://[::1]:6379/1",
        "unix://u:p@/run/redis?db=2",
        "rediss://:p@cache:6379/1?ssl_ca_certs=%2Fca.pem",
    ],
)
def test_the_url_of_a_client_leads_to_the_same_place(url: str) -> None:
    """Host, port, database, credentials and certificates."""
    given = Redis.from_url(url)
    told = client_url(given)

    assert told is not None
    again = Redis.from_url(told)
    assert again.connection_pool.connection_class is given.connection_pool.connection_class
    for name in ("host", "port", "db", "username", "password", "path", "ssl_ca_certs"):
        kwargs = [one.connection_pool.connection_kwargs.get(name) or None for one in (given, again)]
        assert kwargs[0] == kwargs[1] or (name == "db" and kwargs == [0, None]), name


def test_the_url_of_an_engine_has_its_password() -> None:
    """Commands connect with it; nobody is shown it."""
    engine = create_engine("postgresql+psycopg2://u:p%40ss@h:5433/d?sslmode=require")

    assert engine_url(engine) == "postgresql://u:p%40ss@h:5433/d?sslmode=require"
