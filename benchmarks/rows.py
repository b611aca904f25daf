"""The same appointments at every size: 20 on a page, with 60 distinct references."""

import contextlib
import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg2

from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.servers import EmbeddedPostgres

PEOPLE = 1000
"""Customers, as many vehicles and as many employees; whoever has the number 0 has 40 appointments in any size."""

PAGE_SIZE = 20
_DAYS = 1826

_INSERT = f"""
    INSERT INTO appointments (
        id, customer_id, vehicle_id, assigned_employee_id, appointment_type, scheduled_date, scheduled_time,
        duration_minutes, status, service_description, customer_notes, internal_notes, estimated_cost,
        duration_seconds, created_by_user_id, created_at, updated_at, cancelled_at, completed_at
    )
    SELECT md5('appointment' || i)::uuid,
        md5('customer' || CASE WHEN i - own BETWEEN 0 AND 39 THEN 0 ELSE 1 + i %% {PEOPLE - 1} END)::uuid,
        md5('vehicle' || CASE WHEN i - own BETWEEN 40 AND 79 THEN 0 ELSE 1 + i %% {PEOPLE - 1} END)::uuid,
        md5('employee' || CASE WHEN i - own BETWEEN 80 AND 119 THEN 0 ELSE 1 + i %% {PEOPLE - 1} END)::uuid,
        (ARRAY['maintenance', 'repair', 'inspection', 'diagnostic', 'emergency'])[1 + i %% 5],
        DATE '2022-03-01' + (i::bigint * {_DAYS} / size)::integer,
        TIME '08:00' + i %% 40 * INTERVAL '15 minutes',
        60,
        CASE WHEN i < size * 9 / 10
            THEN (ARRAY['completed', 'completed', 'completed', 'completed', 'cancelled', 'no_show'])[1 + i %% 6]
            ELSE (ARRAY['pending', 'confirmed'])[1 + i %% 2] END,
        'Brake pads squeak; please look at the rear axle too.', '', '', NULL,
        0, md5('customer1')::uuid, now(), now(), NULL, NULL
    FROM (SELECT %(size)s AS size, %(size)s / 4 AS own) AS given, generate_series(0, size - 1) AS i
"""  # noqa: S608 - constants of this file


def person(kind: str, number: int) -> str:
    """Return the id of the customer, vehicle or employee of a number, as the SQL above computes it."""
    return str(uuid.UUID(hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest()))


def fill_database(server: EmbeddedPostgres, size: int) -> str:
    """Create a database with the service's tables and `size` appointments, and return its URL."""
    from servease_appt.db.migrate import upgrade

    url = server.create_database(f"bench_{size}")
    upgrade(url)
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(_INSERT, {"size": size})
            cursor.execute("VACUUM ANALYZE")
    return url


def introduce_people(fake_services: FakeServices) -> None:
    """Add all references to the three fake services."""
    numbers = range(PEOPLE)
    fake_services.customers.put(
        *(
            {"id": person("customer", n), "full_name": f"Amelia Fernando {n}", "email": f"c{n}@example.com"}
            for n in numbers
        )
    )
    fake_services.vehicles.put(*_vehicles())
    fake_services.employees.put(
        *({"id": person("employee", n), "full_name": f"Nimal Perera {n}"} for n in numbers)
    )


def _vehicles() -> Iterator[dict[str, Any]]:
    for n in range(PEOPLE):
        yield {
            "id": person("vehicle", n),
            "year": 2000 + n % 25,
            "make": "Toyota",
            "model": f"Corolla {n}",
            "customer_id": person("customer", n),
        }
