"""Spans of lookups, in an exporter in memory; and nothing of OpenTelemetry where tracing is off."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.observability.metrics import Metrics
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from tests.support.dataset import SECRET, Dataset
from tests.support.served import settings


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """The process's exporter: OpenTelemetry takes a provider once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def traced(
    migrated_postgres_url: str, redis_url: str, fake_services: FakeServices, exporter: InMemorySpanExporter
) -> Iterator[Dataset]:
    """The service with tracing, and no spans yet."""
    environment = settings(migrated_postgres_url, redis_url, fake_services, TRACING_ENABLED="1")
    app = create_app(Settings.from_mapping(environment))
    try:
        yield Dataset(app, fake_services)
    finally:
        app.extensions[EXTENSION].close()
        exporter.clear()


def named(exporter: InMemorySpanExporter) -> Callable[[str], list[ReadableSpan]]:
    """Return a function for the finished spans whose names begin so."""
    return lambda start: [span for span in exporter.get_finished_spans() if span.name.startswith(start)]


def test_a_page_has_spans_down_to_the_services(traced: Dataset, exporter: InMemorySpanExporter) -> None:
    """A cold page: its lookups within the request's span, and Redis and the services within these."""
    traced.appointment(assigned_employee_id=traced.erin_id)
    with trace.get_tracer("host").start_as_current_span("request") as request:
        assert traced.erin.get("/appointments/").status_code == 200
    spans = named(exporter)

    (page,) = spans("look up references")
    assert page.parent == request.get_span_context()
    assert dict(page.attributes or {}) == {
        "servease.endpoint": "list_appointments",
        "servease.references.l1": 0,
        "servease.references.l2": 0,
        "servease.references.upstream": 3,
        "servease.references.stale": 0,
        "servease.references.unknown": 0,
    }
    loads = spans("load ")
    assert {span.name for span in loads} == {"load customer", "load vehicle", "load employee"}
    assert {(span.attributes or {})["servease.outcome"] for span in loads} == {"ok"}
    redis = [span for span in spans("redis ") if span.parent == page.context]
    assert redis
    for span in [*loads, *redis]:
        assert span.parent == page.context
        assert page.start_time is not None
        assert page.end_time is not None
        assert page.start_time <= (span.start_time or 0) + 10_000_000
        assert (span.end_time or 0) <= page.end_time


def test_a_warm_page_has_one_span(traced: Dataset, exporter: InMemorySpanExporter) -> None:
    """What L1 holds costs no command and no call, so there is nothing below the page."""
    traced.appointment(assigned_employee_id=traced.erin_id)
    traced.erin.get("/appointments/")
    assert wait_until(lambda: traced.container.lookups.mode() == "both", timeout_s=10)
    traced.erin.get("/appointments/")
    traced.erin.get("/appointments/")
    page = named(exporter)("look up references")[-1]
    assert (page.attributes or {})["servease.references.l1"] == 3
    assert [span.name for span in exporter.get_finished_spans() if span.parent == page.context] == []


def test_a_failed_call_is_an_error_and_an_absent_entity_is_none(
    traced: Dataset, exporter: InMemorySpanExporter
) -> None:
    """Each span says how the call ended; 404 is an answer."""
    traced.appointment()
    traced.fake_services.customers.rule(traced.alice_id, status=500)
    traced.fake_services.vehicles.rule(traced.alices_car, status=404)
    traced.erin.get("/appointments/")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    outcomes = {
        name: (dict(spans[name].attributes or {})["servease.outcome"], spans[name].status.is_ok)
        for name in ("load customer", "load vehicle")
    }
    assert outcomes == {"load customer": ("error", False), "load vehicle": ("not_found", True)}


def test_nothing_is_imported_or_wrapped_without_the_setting(
    migrated_postgres_url: str, redis_url: str, fake_services: FakeServices
) -> None:
    """Where tracing is off, the metrics themselves observe the cache, and nothing of tracing is imported."""
    environment = settings(migrated_postgres_url, redis_url, fake_services)
    app = create_app(Settings.from_mapping(environment))
    try:
        lookups = app.extensions[EXTENSION].lookups
        assert lookups._tracing is None
        assert isinstance(lookups.cache._observer, Metrics)
    finally:
        app.extensions[EXTENSION].close()
    code = "import sys, servease_appt.app; sys.exit('servease_appt.observability.tracing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_setting_without_the_extra_stops_the_start_with_one_line() -> None:
    """It says what to install."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from servease_appt.app import create_app; from servease_appt.settings import Settings, SettingsError\n"
        f"needed = dict(SECRET_KEY={SECRET!r}, DATABASE_URL='postgresql://h/d', TRACING_ENABLED='1')\n"
        "try: create_app(Settings.from_mapping(needed))\n"
        "except SettingsError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout.strip().endswith("pip install 'servease-appointments[tracing]'"), done.stderr
