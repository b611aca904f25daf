"""The dashboard's data as JSON: all workers together, each worker, one entity."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from redis.exceptions import RedisError

import servease_appt
from servease_appt.cache import CacheUnavailable, Mode
from servease_appt.cache.messages import sequence_of
from servease_appt.container import Container
from servease_appt.inspection.entries import StoredEntry, read_entry, same_value
from servease_appt.inspection.key_pages import read_page
from servease_appt.inspection.workers import (
    Tiers,
    WorkerEntry,
    WorkerStatus,
    query_acknowledgements,
    query_entry,
    query_events,
    query_statuses,
    self_status,
    short_name,
)
from servease_appt.observability.cache_report import (
    references_by_endpoint,
    with_hit_rates,
    workers_by_breaker_state,
    workers_by_mode,
)
from servease_appt.observability.metric_history import EVERY_S, sample
from servease_appt.observability.metrics import READ_SECONDS, REDIS_SECONDS, SECONDS

ANSWER_TIMEOUT_S: Final = 0.5
ACKNOWLEDGED_WITHIN_S: Final = 2.0
COUNT_L2_EVERY_S: Final = 10.0
MOST_COUNTED: Final = 50_000
MOST_EVENTS: Final = 500


class Overview:
    """The page's figures, charts and table of workers. Thread-safe."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._cache = container.lookups.cache
        self._l2: dict[str, int] | None = None
        self._count_l2_at_s = float("-inf")

    def as_json(self, since_s: float) -> dict[str, Any]:
        """Return everything, with the metric history after `since_s` (wall clock).

        Never raises because a server is down.
        """
        now_s = time.time()
        totals = self._container.metrics.totals()
        workers, expected = self._workers()
        return {
            "now_s": now_s,
            "version": servease_appt.__version__,
            "answered_by": self._cache.identity,
            "every_s": EVERY_S,
            "ends_s": {"http": SECONDS, "redis": REDIS_SECONDS, "upstream": SECONDS, "reads": READ_SECONDS},
            "latest": sample(totals, now_s).as_json(),
            "history": [found.as_json() for found in self._container.metric_history.since(since_s)],
            "modes": workers_by_mode(totals),
            "breakers": workers_by_breaker_state(totals),
            "endpoints": with_hit_rates(references_by_endpoint(totals)),
            "workers": workers,
            "workers_expected": expected,
            "l1_max_entries": self._cache.policy.l1_maxsize,
            "l2_entries": self._l2_entries(),
            "l2_counted_to": MOST_COUNTED,
        }

    def events_since(self, since_s: float) -> list[dict[str, Any]]:
        """Return the newest events of all workers after a time, oldest first.

        Raises:
            CacheUnavailable: Redis does not answer.
        """
        with _redis_needed():
            answers = query_events(self._cache.worker_queries, since_s, timeout_s=ANSWER_TIMEOUT_S)
        events = [
            {"worker": short_name(answer.worker), **asdict(event)}
            for answer in answers.readable
            for event in answer.events
        ]
        return sorted(events, key=itemgetter("at_s"))[-MOST_EVENTS:]

    def _workers(self) -> tuple[list[dict[str, Any]], int]:
        """Return a row per worker, and how many workers listen; only this worker and 0 while Redis is down."""
        if self._cache.mode in (Mode.BOTH, Mode.L2_ONLY):
            with suppress(RedisError, OSError):  # it stopped answering just now
                queries = self._cache.worker_queries
                sequence = sequence_of(self._cache.l2.client.get(self._cache.keys.sequence))
                expected = queries.listeners()
                answers = query_statuses(queries, timeout_s=ANSWER_TIMEOUT_S)
                rows = [_row(status, status.behind(sequence), status.after_ms) for status in answers.readable]
                return rows, expected
        return [_row(self_status(self._cache.identity, self._cache.describe()), None, None)], 0

    def _l2_entries(self) -> dict[str, int] | None:
        """Return the number of values in Redis by entity, counted every 10 s; None while Redis does not answer."""
        now_s = time.monotonic()
        if now_s >= self._count_l2_at_s:
            self._count_l2_at_s = now_s + COUNT_L2_EVERY_S
            try:
                keys = islice(self._cache.l2.scan("*"), MOST_COUNTED)
                self._l2 = Counter(map(self._cache.codecs.name_of, keys))
            except (RedisError, OSError):
                self._l2 = None
        return self._l2


def _row(status: WorkerStatus, behind: int | None, answered_ms: float | None) -> dict[str, Any]:
    """Return what the table shows of a worker; `behind` and `answered_ms` are None where Redis does not tell."""
    return {
        "worker": short_name(status.worker),
        "mode": status.mode,
        "l1_entries": status.l1_entries_by_entity,
        "l1_evictions": status.l1_evictions,
        "heard_s_ago": status.heard_s_ago,
        "sequence": status.sequence,
        "behind": behind,
        "resident_bytes": status.resident_bytes,
        "refusal": status.redis_refuses,
        "sent": _invalidations(status.tiers, "l2"),
        "heard": _invalidations(status.tiers, "channel"),
        "gaps": status.tiers.get("channel", {}).get("-", {}).get("gap", 0),
        "breakers": status.all_breakers,
        "answered_ms": answered_ms,
    }


def _invalidations(tiers: Tiers, tier: str) -> int:
    return sum(events.get("invalidation", 0) for events in tiers.get(tier, {}).values())


class Entries:
    """Looks up and invalidates one entity. Raises CacheUnavailable while Redis does not answer."""

    def __init__(self, container: Container) -> None:
        self._lookups = container.lookups
        self._cache = container.lookups.cache

    def explain(self, entity: str, id_: str) -> dict[str, Any]:
        """Return what Redis and each worker hold. Values are compared by digests and never returned."""
        key = f"{entity}_{id_}"
        with _redis_needed():
            stored = read_entry(self._cache.l2.client, self._cache.keys, self._cache.codecs, key)
            queries = self._cache.worker_queries
            answers = query_entry(queries, key, timeout_s=ANSWER_TIMEOUT_S)
            return {
                "key": key,
                "l2": _stored_json(stored),
                "workers": [_entry_row(answer, stored) for answer in answers.readable],
                "workers_expected": queries.listeners(),
            }

    def invalidate(self, entity: str, id_: str) -> dict[str, Any]:
        """Drop it from both tiers. Workers that answer afterwards have handled the message."""
        started_s = time.monotonic()
        self._lookups.invalidate(entity, [id_])
        took_ms = (time.monotonic() - started_s) * 1000
        with _redis_needed():
            queries = self._cache.worker_queries
            expected = queries.listeners()
            answers = query_acknowledgements(queries, timeout_s=ACKNOWLEDGED_WITHIN_S)
        return {
            "key": f"{entity}_{id_}",
            "took_ms": round(took_ms, 3),
            "workers": [
                {"worker": short_name(answer.worker), "after_ms": answer.after_ms}
                for answer in answers.readable
            ],
            "workers_expected": expected,
        }

    def page(self, entity: str | None, cursor: str) -> dict[str, Any]:
        """Return a page of the keys in Redis, of one entity or of all. Raises ValueError for no cursor."""
        pattern = "*" if entity is None else f"{entity}_*"
        with _redis_needed():
            return asdict(read_page(self._cache.l2.client, self._cache.keys, pattern, cursor))


def _stored_json(stored: StoredEntry) -> dict[str, Any]:
    return {
        "there": stored.payload is not None,
        "bytes": len(stored.payload or b""),
        "left_s": stored.value_s,
        "digest": stored.digest,
        "last_known_copy": stored.stale_s is not None,
        "known_to_be_absent": stored.absent_s is not None,
        "being_loaded": stored.lease_s is not None,
    }


def _entry_row(answer: WorkerEntry, stored: StoredEntry) -> dict[str, Any]:
    return {
        "worker": short_name(answer.worker),
        "after_ms": answer.after_ms,
        "l1": None if answer.l1 is None else asdict(answer.l1),
        "same_as_l2": None if answer.l1 is None else same_value(answer.l1.digest, stored),
        "last_event": asdict(answer.events[0]) if answer.events else None,
    }


@contextmanager
def _redis_needed() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise CacheUnavailable(f"Redis does not answer: {error}") from error
