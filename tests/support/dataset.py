"""A small data set: two customers, their vehicles, employees, and a client for each user."""

import itertools
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from typing import Any

import jwt
from flask import Flask
from sqlalchemy import insert, select, text
from werkzeug.test import TestResponse

from servease_appt.container import EXTENSION, Container
from servease_appt.db import models
from servease_appt.testing.fake_services import FakeServices

SECRET = "a-secret-for-tests-of-32-bytes-or-more"
BASE = "/api/v1"
TODAY = datetime.now(UTC).date()


def new_id() -> str:
    """Return a new UUID."""
    return str(uuid.uuid4())


def token(secret: str = SECRET, **claims: Any) -> str:
    """Return a token like those of the authentication service. Claims that are None are left out."""
    full = {
        "user_id": new_id(),
        "user_role": "customer",
        "token_type": "access",
        "exp": int(time.time()) + 86400,
    }
    given = {name: value for name, value in {**full, **claims}.items() if value is not None}
    return jwt.encode(given, secret, algorithm="HS256")


def weekday(number: int) -> date:
    """Return the `number`th weekday after today."""
    days = (TODAY + timedelta(days=ahead) for ahead in itertools.count(1))
    return next(itertools.islice((day for day in days if day.weekday() < 5), number - 1, None))


class Asker:
    """A client of one user, below the API's base path but for the start page and the dashboard."""

    def __init__(self, app: Flask, bearer: str | None) -> None:
        self._client = app.test_client()
        self._headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **given: Any
    ) -> TestResponse:
        """Send one request."""
        base = "" if path == "/" or path.startswith("/ops/") else BASE
        return self._client.open(
            base + path, method=method, headers={**self._headers, **(headers or {})}, **given
        )

    def get(self, path: str, **given: Any) -> TestResponse:
        """Send a GET."""
        return self.ask("GET", path, **given)

    def post(self, path: str, body: object = None, **given: Any) -> TestResponse:
        """Send a POST with a JSON body."""
        return self.ask("POST", path, json=body or {}, **given)

    def put(self, path: str, body: object, **given: Any) -> TestResponse:
        """Send a PUT with a JSON body."""
        return self.ask("PUT", path, json=body, **given)

    def patch(self, path: str, body: object, **given: Any) -> TestResponse:
        """Send a PATCH with a JSON body."""
        return self.ask("PATCH", path, json=body, **given)

    def delete(self, path: str, **given: Any) -> TestResponse:
        """Send a DELETE."""
        return self.ask("DELETE", path, **given)


class Dataset:
    """The data set. Ids are new in each test, so that values cached for another test are not found."""

    def __init__(self, app: Flask, fake_services: FakeServices) -> None:
        self.app = app
        self.fake_services = fake_services
        self.container: Container = app.extensions[EXTENSION]
        self.alice_id, self.bob_id, self.erin_id, self.emil_id, self.ada_id = (new_id() for _ in range(5))
        self.alices_car, self.bobs_car = new_id(), new_id()
        fake_services.customers.put(
            {"id": self.alice_id, "full_name": "Alice Ant", "email": "alice@example.com"},
            {"id": self.bob_id, "full_name": "Bob Bee", "email": "bob@example.com"},
        )
        fake_services.vehicles.put(
            {
                "id": self.alices_car,
                "year": 2020,
                "make": "Toyota",
                "model": "Camry",
                "customer_id": self.alice_id,
            },
            {
                "id": self.bobs_car,
                "year": 2018,
                "make": "Honda",
                "model": "Civic",
                "customer_id": self.bob_id,
            },
        )
        fake_services.employees.put(
            {"id": self.erin_id, "full_name": "Erin Eel"}, {"id": self.emil_id, "full_name": "Emil Elk"}
        )
        self.nobody = Asker(app, None)
        self.alice = Asker(app, token(user_id=self.alice_id))
        self.bob = Asker(app, token(user_id=self.bob_id))
        self.erin = Asker(app, token(user_id=self.erin_id, user_role="employee"))
        self.ada = Asker(app, token(user_id=self.ada_id, user_role="admin"))
        self.service = Asker(app, token(user_id=None, user_role="service"))
        self.askers = {
            "nobody": self.nobody,
            "owner": self.alice,
            "other": self.bob,
            "employee": self.erin,
            "admin": self.ada,
            "service": self.service,
        }
        self._hours = itertools.count()

    def start_ahead(self) -> tuple[date, clock]:
        """Return a start that is far from all other appointments of this dataset."""
        number = next(self._hours)
        return weekday(3 + number // 8), clock(9 + number % 8)

    def appointment(self, **columns: Any) -> str:
        """Insert an appointment of Alice without the rules; return its id."""
        day, start = self.start_ahead()
        now = datetime.now(UTC)
        row = {
            "id": new_id(),
            "customer_id": self.alice_id,
            "vehicle_id": self.alices_car,
            "assigned_employee_id": None,
            "appointment_type": "repair",
            "scheduled_date": day,
            "scheduled_time": start,
            "duration_minutes": 60,
            "status": "pending",
            "service_description": "Brakes",
            "customer_notes": "",
            "internal_notes": "A secret of the workshop",
            "estimated_cost": None,
            "duration_seconds": 0,
            "created_by_user_id": self.alice_id,
            "created_at": now,
            "updated_at": now,
            "cancelled_at": None,
            "completed_at": None,
            **columns,
        }
        with self.container.database.transaction() as connection:
            connection.execute(insert(models.Appointment).values(row))
        return str(row["id"])

    def history_row(self, appointment_id: str, **columns: Any) -> str:
        """Insert a history row; return its id."""
        row = {
            "id": new_id(),
            "appointment_id": appointment_id,
            "changed_by_user_id": self.erin_id,
            "previous_status": "pending",
            "new_status": "confirmed",
            "change_reason": "",
            "changed_at": datetime.now(UTC),
            **columns,
        }
        with self.container.database.transaction() as connection:
            connection.execute(insert(models.AppointmentHistory).values(row))
        return str(row["id"])

    def slot(self, **columns: Any) -> str:
        """Insert a time slot; return its id."""
        day, start = self.start_ahead()
        row = {
            "id": new_id(),
            "date": day,
            "start_time": start,
            "end_time": clock(start.hour + 1),
            "is_available": True,
            "max_concurrent_appointments": 2,
            **columns,
        }
        with self.container.database.transaction() as connection:
            connection.execute(insert(models.TimeSlot).values(row))
        return str(row["id"])

    def booking(self, **fields: Any) -> dict[str, Any]:
        """Return the body of a booking for Alice."""
        day, start = self.start_ahead()
        return {
            "customer_id": self.alice_id,
            "vehicle_id": self.alices_car,
            "appointment_type": "maintenance",
            "scheduled_date": day.isoformat(),
            "scheduled_time": start.isoformat(),
            **fields,
        }

    def stored(self, appointment_id: str) -> dict[str, Any]:
        """Return the appointment's row in the database."""
        with self.container.database.reading() as connection:
            row = connection.execute(
                select(models.Appointment.__table__).where(models.Appointment.id == appointment_id)
            ).one()
        return dict(row._mapping)

    def count(self, table: str) -> int:
        """Return the number of rows of `table`."""
        with self.container.database.reading() as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608

    def clear(self) -> None:
        """Empty all tables."""
        with self.container.database.transaction() as connection:
            connection.execute(
                text("TRUNCATE appointments, time_slots, appointment_history, idempotency_keys")
            )
