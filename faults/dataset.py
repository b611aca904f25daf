"""The data of an experiment: appointments whose names contain versions that only grow."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import UTC, datetime, time, timedelta
from typing import Any

from sqlalchemy import create_engine, insert, select

from servease_appt.db import models
from servease_appt.testing.fake_services import FakeService, FakeServices

ROWS = 40
EMPLOYEES = 8
_KINDS = {"c": "customer", "e": "employee", "v": "vehicle"}


class Dataset:
    """Keys are `c012`, `e003`, `v012`; row `n` shows customer `n`, vehicle `n` and employee `n % EMPLOYEES`.

    Thread-safe, as long as each key is bumped by one thread.
    """

    def __init__(self, fake_services: FakeServices) -> None:
        self.fake_services = fake_services
        self._lock = threading.Lock()
        self.appointments = [str(uuid.uuid4()) for _ in range(ROWS)]
        keys = [f"{kind}{n:03}" for kind in "cv" for n in range(ROWS)] + [
            f"e{n:03}" for n in range(EMPLOYEES)
        ]
        self.versions = dict.fromkeys(keys, 1)
        self.ids = {key: str(uuid.uuid4()) for key in keys}
        self._keys = {id_: key for key, id_ in self.ids.items()}
        self._first_booking_day = datetime.now(UTC).date() + timedelta(days=2)
        # Later than all bookings, so that the list's first pages show these rows.
        self._first_day = datetime.now(UTC).date() + timedelta(days=500)
        for kind in _KINDS.values():
            self.service(kind).put(*self.entries(kind))

    def service(self, kind: str) -> FakeService:
        """Return the fake service for `customer`, `employee` or `vehicle`."""
        return {"customer": self.fake_services.customers, "employee": self.fake_services.employees}.get(
            kind, self.fake_services.vehicles
        )

    def kind_of(self, key: str) -> str:
        """Return the entity of a key: `customer`, `employee` or `vehicle`."""
        return _KINDS[key[0]]

    def cache_key(self, key: str) -> str:
        """As the cache names it."""
        return f"{self.kind_of(key)}_{self.ids[key]}"

    def key_of(self, id_: str) -> str | None:
        """Return the key of an id; None for an id that is not in this dataset."""
        return self._keys.get(id_)

    def appointment_of(self, key: str) -> str:
        """Return an appointment that shows the key."""
        return self.appointments[int(key[1:])]

    def bump(self, key: str) -> int:
        """Store a newer version in the service that owns the key, and return it."""
        with self._lock:
            self.versions[key] += 1
            entry = self._entry(key)
        self.service(self.kind_of(key)).put(entry)
        return self.versions[key]

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """Return all present entries of a service."""
        return [self._entry(key) for key in self.versions if self.kind_of(key) == kind]

    def _entry(self, key: str) -> dict[str, Any]:
        id_, text = self.ids[key], f"{key} v{self.versions[key]}"
        if key[0] == "c":
            return {"id": id_, "full_name": text, "email": f"{key}@example.com"}
        if key[0] == "e":
            return {"id": id_, "full_name": text}
        owner = self.ids[f"c{key[1:]}"]
        return {"id": id_, "year": 2020, "make": "Make", "model": text, "customer_id": owner}

    def seen_in(self, body: dict[str, Any]) -> dict[str, str]:
        """Key to text for every name in a list or a detail."""
        seen = {}
        for row in body.get("results", [body]):
            for id_name, text_name in (
                ("customer_id", "customer_name"),
                ("vehicle_id", "vehicle_details"),
                ("assigned_employee_id", "employee_name"),
            ):
                key = self.key_of(row[id_name] or "")
                if key is not None:
                    seen[key] = row[text_name]
        return seen

    def seen_in_l2(self, key: str, payload: bytes | None) -> dict[str, str]:
        """Key to text for a value as it lies in Redis; nothing for what is no object."""
        if payload is None:
            return {}
        try:
            fields = json.loads(payload)
            text = str(fields["model" if key[0] == "v" else "full_name"])
        except (ValueError, KeyError, TypeError):
            return {}
        return {key: text}

    def seed(self, database_url: str) -> None:
        """Put the appointments into the database, past all rules."""
        now = datetime.now(UTC)
        rows = [
            {
                "id": id_,
                "customer_id": self.ids[f"c{n:03}"],
                "vehicle_id": self.ids[f"v{n:03}"],
                "assigned_employee_id": self.ids[f"e{n % EMPLOYEES:03}"],
                "appointment_type": "repair",
                "scheduled_date": self._first_day + timedelta(days=n),
                "scheduled_time": time(9),
                "duration_minutes": 60,
                "status": "pending",
                "service_description": "",
                "customer_notes": "",
                "internal_notes": "",
                "estimated_cost": None,
                "duration_seconds": 0,
                "created_by_user_id": self.ids[f"c{n:03}"],
                "created_at": now,
                "updated_at": now,
                "cancelled_at": None,
                "completed_at": None,
            }
            for n, id_ in enumerate(self.appointments)
        ]
        engine = create_engine(database_url)
        with engine.begin() as connection:
            connection.execute(insert(models.Appointment), rows)
        engine.dispose()

    def booking(self, number: int) -> dict[str, Any]:
        """The body of a booking that gets in nobody's way; its description names the number."""
        row = number % ROWS
        return {
            "customer_id": self.ids[f"c{row:03}"],
            "vehicle_id": self.ids[f"v{row:03}"],
            "appointment_type": "inspection",
            "scheduled_date": (self._first_booking_day + timedelta(days=number // 20)).isoformat(),
            "scheduled_time": f"{number % 20:02}:00",
            "service_description": f"booking {number}",
        }

    def booked(self, database_url: str) -> dict[str, list[str]]:
        """Description to the ids of the rows that bookings made."""
        engine = create_engine(database_url)
        table = models.Appointment
        rows = select(table.service_description, table.id).where(table.service_description.like("booking %"))
        found: dict[str, list[str]] = {}
        with engine.connect() as connection:
            for description, id_ in connection.execute(rows):
                found.setdefault(description, []).append(id_)
        engine.dispose()
        return found
