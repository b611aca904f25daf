"""OpenTelemetry spans of the lookups of a page: the page, its Redis commands, and its calls to services.

Needs the extra `tracing`; imported only where `TRACING_ENABLED` is set. Spans belong to the current span, such as
that of the request by `opentelemetry-instrument`. Without a configured SDK they go nowhere.
"""

import time
from collections import Counter
from collections.abc import Callable

from opentelemetry import context
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    get_tracer,
    set_span_in_context,
)

from servease_appt.cache import LoadDenied, Lookup, Observer, Source, ValueNotFound
from servease_appt.cache.breaker import BreakerState
from servease_appt.references.entities import Reference

Load = Callable[[str, float], Reference]


def tracer() -> Tracer:
    """Return the tracer of the SDK that the process has configured."""
    return get_tracer("servease_appt")


class PageSpans:
    """Makes a span for the lookups of one answer, and one for each call that they lead to. Thread-safe."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def look_up(
        self, endpoint: str, asked: int, get: Callable[[Load], Lookup[Reference]], load: Load
    ) -> Lookup[Reference]:
        """Return what `get(load)` returns, traced.

        Args:
            endpoint: the name of the operation that answers.
            asked: how many references the answer shows.
            get: reads the references; calls its argument on other threads for those that no tier holds.
            load: asks a service.
        """
        with self._tracer.start_as_current_span(
            "look up references", attributes={"servease.endpoint": endpoint}
        ) as span:
            lookup = get(self._traced(load))
            counts = Counter(lookup.sources.values())
            span.set_attribute("servease.references.l1", asked - len(lookup.sources))
            for source in Source:
                if source is not Source.L1:
                    span.set_attribute(f"servease.references.{source.value}", counts[source])
        return lookup

    def _traced(self, load: Load) -> Load:
        """Return `load` with a span that belongs to the current one, whatever thread it is called on."""
        here = context.get_current()

        def traced(key: str, timeout_s: float) -> Reference:
            entity = key.partition("_")[0]
            attributes = {"servease.entity": entity}
            span = self._tracer.start_span(f"load {entity}", here, SpanKind.CLIENT, attributes)
            token = context.attach(set_span_in_context(span, here))
            outcome = "error"
            try:
                value = load(key, timeout_s)
                outcome = "ok"
            except ValueNotFound:
                outcome = "not_found"
                raise
            except LoadDenied:
                outcome = "denied"
                raise
            finally:
                span.set_attribute("servease.outcome", outcome)
                if outcome == "error":
                    span.set_status(Status(StatusCode.ERROR))
                context.detach(token)
                span.end()
            return value

        return traced


class RedisSpans:
    """An observer of the cache that makes a span of each round trip, and passes all on. Thread-safe."""

    def __init__(self, tracer: Tracer, observer: Observer) -> None:
        self._tracer = tracer
        self._observer = observer

    def redis_operation(self, operation: str, seconds: float, outcome: str) -> None:
        """Make a span that ends now. What runs outside of any span, such as heartbeats, makes none."""
        self._observer.redis_operation(operation, seconds, outcome)
        if not get_current_span().is_recording():
            return
        ended_ns = time.time_ns()
        attributes = {"db.system.name": "redis", "db.operation.name": operation, "servease.outcome": outcome}
        span = self._tracer.start_span(
            f"redis {operation}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=ended_ns - int(seconds * 1e9),
        )
        if outcome == "error":
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_ns)

    def breaker_changed(self, breaker: str, state: BreakerState) -> None:
        """Pass it on: a breaker belongs to no request."""
        self._observer.breaker_changed(breaker, state)
