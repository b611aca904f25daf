"""The names that stand beside ids in an answer, and the two headers that say where they came from."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flask import request

from servease_appt.api.context import services
from servease_appt.api.tokens import Caller
from servease_appt.bookings.records import Appointment, AppointmentRow
from servease_appt.lookups import PageNames


@dataclass(slots=True)
class Stopwatch:
    """Milliseconds spent in the blocks measured so far."""

    ms: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add the time that the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.ms += (time.perf_counter() - started) * 1000


def names_for(rows: Iterable[Appointment | AppointmentRow], caller: Caller) -> PageNames:
    """Return the names of everybody and everything that `rows` refer to. Never raises: there are placeholders."""
    customers: set[str] = set()
    vehicles: set[str] = set()
    employees: set[str | None] = set()
    for row in rows:
        customers.add(row.customer_id)
        vehicles.add(row.vehicle_id)
        employees.add(row.assigned_employee_id)
    endpoint = (request.endpoint or "").rpartition(".")[2]
    return services().lookups.page_names(customers, vehicles, employees, caller.token, endpoint)


def name_headers(names: PageNames, database_ms: float) -> dict[str, str]:
    """Return `X-Cache` and `Server-Timing` for an answer with `names`."""
    return {
        "X-Cache": names.x_cache,
        "Server-Timing": server_timing(database_ms, names.cache_ms, names.upstream_ms),
    }


def server_timing(database_ms: float, cache_ms: float = 0.0, upstream_ms: float = 0.0) -> str:
    """Return the value of `Server-Timing`, in milliseconds."""
    return f"db;dur={database_ms:.2f}, cache;dur={cache_ms:.2f}, upstream;dur={upstream_ms:.2f}"
