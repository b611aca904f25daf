"""The names that stand beside ids in an answer, and the two headers that say where they came from."""

from collections.abc import Sequence
from time import perf_counter

from flask import request

from servease_appt.api.context import container
from servease_appt.api.tokens import Caller
from servease_appt.appointments.records import Appointment, AppointmentRow
from servease_appt.references.enrichment import PageNames


class Stopwatch:
    """A context manager that adds up the milliseconds spent within it, in one thread."""

    __slots__ = ("_started", "ms")

    def __init__(self) -> None:
        self.ms = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *_: object) -> None:
        self.ms += (perf_counter() - self._started) * 1000


def names_for(rows: Sequence[Appointment | AppointmentRow], caller: Caller) -> PageNames:
    """Return the names of everybody and everything that `rows` refer to. Never raises: there are placeholders."""
    return container().lookups.page_names(
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
