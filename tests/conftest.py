"""Servers for every test: real ones, started from wheels on free ports, gone with the run however it ends."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey
from tests.cache.cluster_setup import ClusterSetup

# What a developer's shell holds must not decide what a test connects to, nor how wide a table is. The processes of
# pytest-xdist get a width from readline.
for name in list(os.environ):
    if name.startswith("PG") or name.lower().endswith("_proxy") or name in {"COLUMNS", "LINES"}:
        del os.environ[name]
# A shell lets what it starts in the background ignore Ctrl-C, and the commands that these tests interrupt would
# inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_LONG = Path(__file__).parent / "upgrade"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest: as the last ones they would leave a processor idle."""
    items.sort(key=lambda item: not item.path.is_relative_to(_LONG))


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The run's PostgreSQL server. Tests that stop it start one of their own instead."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedPostgres) -> Callable[[str], str]:
    """Makes a database: `new_database(template)` gives its URL. `template1` is the empty one."""
    numbers = itertools.count(1)
    return lambda template: _sqlalchemy(postgres.create_database(f"test_{next(numbers)}", template))


def _sqlalchemy(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


@pytest.fixture
def postgres_url(postgres: EmbeddedPostgres, new_database: Callable[[str], str]) -> Iterator[str]:
    """An empty database of the test's own."""
    url = new_database("template1")
    yield url
    postgres.drop_database(url.rpartition("/")[2])


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """Name of a database that the packaged migrations have been run on, to be copied."""
    from servease_appt.db.migrate import upgrade

    upgrade(_sqlalchemy(postgres.create_database("migrated")))
    return "migrated"


@pytest.fixture
def migrated_postgres_url(
    postgres: EmbeddedPostgres, new_database: Callable[[str], str], migrated_template: str
) -> Iterator[str]:
    """A database of the test's own with the service's tables, and nothing in them."""
    url = new_database(migrated_template)
    yield url
    postgres.drop_database(url.rpartition("/")[2])


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    """The run's Valkey server. Tests that stop or freeze it, or change its settings, take `own_valkey`."""
    with EmbeddedValkey() as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterSetup]:
    """The run's cluster of three. Tests that stop or freeze a node, or add one, start a cluster of their own."""
    with ClusterSetup() as setup:
        yield setup


@pytest.fixture
def redis_url(valkey: EmbeddedValkey) -> str:
    """Database 1 of the run's Valkey server, empty."""
    with redis.Redis.from_url(valkey.url(1)) as client:
        client.flushall()
    return valkey.url(1)


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    """A Valkey server of the test's own, to kill, freeze and restart."""
    with EmbeddedValkey() as server:
        yield server


@pytest.fixture(scope="session")
def running_fake_services() -> Iterator[FakeServices]:
    """The fake customer, employee and vehicle services of this run; they answer at once."""
    with FakeServices() as fake_services:
        yield fake_services


@pytest.fixture
def fake_services(running_fake_services: FakeServices) -> FakeServices:
    """The three upstream services, which know nothing yet: `put` entries, steer them with `rule` and `delay`.

    A test that stops or freezes one takes `own_fake_services`.
    """
    running_fake_services.reset()
    return running_fake_services


@pytest.fixture
def own_fake_services() -> Iterator[FakeServices]:
    """Fake services of the test's own, to stop, freeze and restart."""
    with FakeServices() as fake_services:
        yield fake_services
