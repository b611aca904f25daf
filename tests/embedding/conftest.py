"""Hosts: applications of somebody else's, made by a factory that closes what it made."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from servease_appt import ServEase
from servease_appt.container import EXTENSION
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.dataset import SECRET

PREFIX = "/garage/api"
HEALTH = f"{PREFIX}/health/"
BOOK = f"{PREFIX}/appointments/"

Prepare = Callable[[Flask], object]


@pytest.fixture(scope="session")
def database_url(new_database: Callable[[str], str], migrated_template: str) -> str:
    """A database with the service's tables."""
    return new_database(migrated_template)


@pytest.fixture
def config(database_url: str, valkey: EmbeddedValkey, running_fake_services: FakeServices) -> dict[str, Any]:
    """What a host writes into `app.config`."""
    return {
        "SECRET_KEY": "the host's own",
        "SERVEASE_SECRET_KEY": SECRET,
        "SERVEASE_DATABASE_URL": database_url,
        "SERVEASE_REDIS_URL": valkey.url(1),
        **{f"SERVEASE_{name}": value for name, value in running_fake_services.settings.items()},
    }


@pytest.fixture
def new_host(config: dict[str, Any]) -> Iterator[Callable[..., Flask]]:
    """Makes hosts: `new_host(prepare, **more_config)`, without the service."""
    made: list[Flask] = []

    def make(prepare: Prepare = lambda _: None, **more: Any) -> Flask:
        host = Flask("host")
        host.config.update(config, **more)
        prepare(host)
        made.append(host)
        return host

    yield make
    for host in made:
        if EXTENSION in host.extensions:
            host.extensions[EXTENSION].close()


@pytest.fixture
def embedded(new_host: Callable[..., Flask]) -> Callable[..., Flask]:
    """Makes hosts with the service under `PREFIX`."""

    def make(prepare: Prepare = lambda _: None, **more: Any) -> Flask:
        host = new_host(prepare, **more)
        ServEase().init_app(host, url_prefix=PREFIX)
        return host

    return make
