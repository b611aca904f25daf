"""The service under gunicorn, one for each test module that takes it, and an application that has no Redis."""

from collections.abc import Iterator

import pytest
from flask import Flask

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from tests.support.served import settings
from tests.support.service_fixtures import cli, client, no_other_workers, served

__all__ = ["cli", "client", "no_other_workers", "served"]


@pytest.fixture
def without_redis(fake_services: FakeServices) -> Iterator[Flask]:
    """An application whose Redis nobody listens for."""
    given = settings("postgresql+psycopg2://127.0.0.1:1/none", "redis://127.0.0.1:1/1", fake_services)
    app = create_app(Settings.from_mapping(given))
    yield app
    app.extensions[EXTENSION].close()
