"""The whole application against real servers; each test finds its tables empty."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.dataset import SECRET, Dataset
from tests.support.served import over_http

ORIGIN = "https://desk.example"


@pytest.fixture(scope="session")
def environment(
    new_database: Callable[[str], str],
    migrated_template: str,
    valkey: EmbeddedValkey,
    running_fake_services: FakeServices,
) -> dict[str, str]:
    """What the service is started with."""
    return {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": new_database(migrated_template),
        "REDIS_URL": valkey.url(1),
        "CORS_ALLOWED_ORIGINS": ORIGIN,
        **running_fake_services.settings,
    }


@pytest.fixture(scope="package")
def app(environment: dict[str, str]) -> Iterator[Flask]:
    """The application, one for these tests; closed behind them, or it would count as a worker in others."""
    app = create_app(Settings.from_mapping(environment))
    yield app
    app.extensions[EXTENSION].close()


@pytest.fixture
def dataset(app: Flask, fake_services: FakeServices) -> Dataset:
    """People, cars and empty tables."""
    dataset = Dataset(app, fake_services)
    dataset.clear()
    return dataset


@pytest.fixture
def address(app: Flask) -> Iterator[str]:
    """Where a browser finds the application."""
    with over_http(app) as address:
        yield address
