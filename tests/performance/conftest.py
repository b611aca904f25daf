"""The whole application with one page of 20 appointments that refer to 60 different people and vehicles."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from sqlalchemy import text

from servease_appt.app import create_app
from servease_appt.cache import Mode
from servease_appt.container import EXTENSION, Container
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from tests.support.dataset import SECRET

PAGE = 20
ROWS = text(
    "INSERT INTO appointments SELECT gen_random_uuid(), CAST(customer AS uuid), CAST(vehicle AS uuid),"
    " CAST(employee AS uuid), 'repair', '2030-05-06', '09:00', 60, 'confirmed',"
    " '', '', '', NULL, gen_random_uuid(), now(), now(), NULL, NULL, 0"
    " FROM unnest(:customers, :vehicles, :employees) AS people (customer, vehicle, employee)"
)


@pytest.fixture
def app(migrated_postgres_url: str, redis_url: str, fake_services: FakeServices) -> Iterator[Flask]:
    """Started, listening, and nothing looked up yet."""
    settings = {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": migrated_postgres_url,
        "REDIS_URL": redis_url,
        **fake_services.settings,
    }
    app = create_app(Settings.from_mapping(settings))
    container: Container = app.extensions[EXTENSION]
    ids = _ids()
    with container.database.transaction() as connection:
        connection.execute(ROWS, ids)
    fake_services.customers.put(
        *({"id": i, "full_name": "Amy Ant", "email": "a@b.c"} for i in ids["customers"])
    )
    fake_services.employees.put(*({"id": i, "full_name": "Erin Eel"} for i in ids["employees"]))
    fake_services.vehicles.put(
        *({"id": i, "year": 2020, "make": "Kia", "model": "Rio", "customer_id": i} for i in ids["vehicles"])
    )
    container.lookups.cache.start()
    assert wait_until(lambda: container.lookups.cache.mode is Mode.BOTH, timeout_s=5)
    yield app
    container.close()


@pytest.fixture
def container(app: Flask) -> Container:
    """The application's parts."""
    parts: Container = app.extensions[EXTENSION]
    return parts


@pytest.fixture
def names_asked(fake_services: FakeServices) -> Callable[[], int]:
    """How many calls the three services have been made."""
    return fake_services.total_calls


@pytest.fixture
def keys() -> list[str]:
    """The cache's keys of everybody and everything that the page refers to."""
    return [f"{kind.removesuffix('s')}_{id_}" for kind, ids in _ids().items() for id_ in ids]


def _ids() -> dict[str, list[str]]:
    kinds = ("customers", "vehicles", "employees")
    return {
        kind: [f"00000000-0000-4000-8000-{ord(kind[0]):02x}{n:010x}" for n in range(PAGE)] for kind in kinds
    }
