"""The names that stand beside ids in an answer, and the two headers that say where they came from."""

import time
from collections.abc import Iterator, Sequence
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


def names_for(rows: Sequence[Appointment | AppointmentRow], caller: Caller) -> PageNames:
    """Return the names of everybody and everything that `rows` refer to. Never raises: there are placeholders."""
    return services().lookups.page_names(
        [row.customer_id for row in rows],
        [row.vehicle_id for row in rows],
        [row.assigned_employee_id for row in rows],
        caller.token,
        endpoint=(request.endpoint or "").rpartition(".")[2],
    )


def name_headers(names: PageNames, database_ms: float) -> dict[str, str]:
    """Return `X-Cache` and `Server-Timing` for an answer with `names`."""
    return {
        "X-Cache": names.x_cache,
        "Server-Timing": server_timing(database_ms, names.cache_ms, names.upstream_ms),
    }


def server_timing(database_ms: float, cache_ms: float = 0.0, upstream_ms: float = 0.0) -> str:
    """Return the value of `Server-Timing`, in milliseconds."""
    return f"db;dur={database_ms:.2f}, cache;dur={cache_ms:.2f}, upstream;dur={upstream_ms:.2f}"
