"""The whole application with one page of 20 appointments that refer to 60 different people and vehicles."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from sqlalchemy import text

from servease_appt.app import create_app
from servease_appt.cache import Mode
from servease_appt.container import EXTENSION, Services
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import StandIns
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
def app(migrated_postgres_url: str, redis_url: str, stand_ins: StandIns) -> Iterator[Flask]:
    """Started, listening, and nothing looked up yet."""
    settings = {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": migrated_postgres_url,
        "REDIS_URL": redis_url,
        **stand_ins.settings,
    }
    app = create_app(Settings.from_mapping(settings))
    services: Services = app.extensions[EXTENSION]
    ids = _ids()
    with services.database.transaction() as connection:
        connection.execute(ROWS, ids)
    stand_ins.customers.put(*({"id": i, "full_name": "Amy Ant", "email": "a@b.c"} for i in ids["customers"]))
    stand_ins.employees.put(*({"id": i, "full_name": "Erin Eel"} for i in ids["employees"]))
    stand_ins.vehicles.put(
        *({"id": i, "year": 2020, "make": "Kia", "model": "Rio", "customer_id": i} for i in ids["vehicles"])
    )
    services.lookups.cache.start()
    assert wait_until(lambda: services.lookups.cache.mode is Mode.BOTH, timeout_s=5)
    yield app
    services.close()


@pytest.fixture
def services(app: Flask) -> Services:
    """The application's parts."""
    parts: Services = app.extensions[EXTENSION]
    return parts


@pytest.fixture
def names_asked(stand_ins: StandIns) -> Callable[[], int]:
    """How many calls the three services have been made."""
    return stand_ins.total_calls


@pytest.fixture
def keys() -> list[str]:
    """The cache's keys of everybody and everything that the page refers to."""
    return [f"{kind.removesuffix('s')}_{id_}" for kind, ids in _ids().items() for id_ in ids]


def _ids() -> dict[str, list[str]]:
    kinds = ("customers", "vehicles", "employees")
    return {
        kind: [f"00000000-0000-4000-8000-{ord(kind[0]):02x}{n:010x}" for n in range(PAGE)] for kind in kinds
    }
