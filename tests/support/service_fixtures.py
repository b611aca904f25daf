"""Fixtures with the service under gunicorn, one for each test module that uses them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from servease_appt.cache import two_tier
from servease_appt.doctor import redis_checks, worker_checks
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.cli import Cli
from tests.support.served import Served, serve, settings


@pytest.fixture(scope="package", autouse=True)
def no_other_workers() -> None:
    """Close caches of earlier tests: they would answer queries as workers."""
    two_tier._close_all()


@pytest.fixture(autouse=True)
def patient_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the doctor from calling a server slow: this machine's processors are busy with other tests."""
    for module, name in (
        (redis_checks, "SLOW_MS"),
        (redis_checks, "REQUEST_TIMEOUT_MS"),
        (worker_checks, "SLOW_MS"),
    ):
        monkeypatch.setattr(module, name, 60_000.0)


@pytest.fixture(scope="module")
def served(
    new_database: Callable[[str], str],
    migrated_template: str,
    valkey: EmbeddedValkey,
    running_fake_services: FakeServices,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """A service with two workers; tests that stop servers start a service of their own."""
    running_fake_services.reset()
    with redis.Redis.from_url(valkey.url(1)) as client:
        client.flushdb()  # a worker that an earlier module killed would still be registered
    directory = Path(tmp_path_factory.mktemp("served"))
    more = {"PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics")}
    environment = settings(new_database(migrated_template), valkey.url(1), running_fake_services, **more)
    with serve(environment, running_fake_services, directory) as served:
        served.wait_for_metric(r'servease_cache_mode\{mode="both"\}', 2)
        yield served


@pytest.fixture(scope="module")
def cli(served: Served) -> Iterator[Cli]:
    """The cache's commands in that service's environment."""
    with Cli(served.gunicorn.settings) as cli:
        yield cli


@pytest.fixture
def client(valkey: EmbeddedValkey) -> Iterator[redis.Redis]:
    """A client of database 1 of the run's Valkey server, as an operator's redis-cli."""
    with redis.Redis.from_url(valkey.url(1)) as client:
        yield client
