"""What the dashboard tells, as JSON: of all workers together, of each, and of one entity."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

from redis.exceptions import RedisError

import servease_appt
from servease_appt.cache import CacheUnavailable, Mode
from servease_appt.cache.worker_queries import digest
from servease_appt.container import Container
from servease_appt.observability.cache_report import (
    references_by_endpoint,
    with_hit_rates,
    workers_by_breaker_state,
    workers_by_mode,
)
from servease_appt.observability.metric_history import EVERY_S, sample
from servease_appt.observability.metrics import REDIS_SECONDS, SECONDS

ANSWER_WITHIN_S: Final = 0.5
HEARD_WITHIN_S: Final = 2.0
COUNT_L2_EVERY_S: Final = 10.0
MOST_COUNTED: Final = 50_000


class Overview:
    """The page's figures, lines and table of workers. Thread-safe."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._cache = container.lookups.cache
        self._l2: dict[str, int] | None = None
        self._count_l2_at_s = float("-inf")

    def as_json(self, since_s: float) -> dict[str, Any]:
        """Everything but the part of the history up to `since_s`. Never raises for what is away."""
        now_s = time.time()
        totals = self._container.metrics.totals()
        workers, expected = self._workers()
        return {
            "now_s": now_s,
            "version": servease_appt.__version__,
            "answered_by": self._cache.identity,
            "every_s": EVERY_S,
            "ends_s": {"http": SECONDS, "redis": REDIS_SECONDS, "upstream": SECONDS},
            "latest": sample(totals, now_s).as_json(),
            "history": [found.as_json() for found in self._container.history.since(since_s)],
            "modes": workers_by_mode(totals),
            "breakers": workers_by_breaker_state(totals),
            "endpoints": with_hit_rates(references_by_endpoint(totals)),
            "workers": workers,
            "workers_expected": expected,
            "l1_max_entries": self._cache.policy.l1_maxsize,
            "l2_entries": self._l2_entries(),
            "l2_counted_to": MOST_COUNTED,
        }

    def _workers(self) -> tuple[list[dict[str, Any]], int]:
        """A row for each worker, and how many there should be; only this one while Redis is away."""
        if self._cache.mode in (Mode.BOTH, Mode.L2_ONLY):
            try:
                questions = self._cache.worker_queries
                expected = questions.listeners()
                answers = questions.query("status", timeout_s=ANSWER_WITHIN_S)
                return sorted(map(_row, answers), key=lambda row: str(row["worker"])), expected
            except (RedisError, OSError):
                pass  # it went away just now
        return [_row({"worker": self._cache.identity, **self._cache.describe()})], 0

    def _l2_entries(self) -> dict[str, int] | None:
        """Values in Redis by entity, counted now and then; None where that can't be done."""
        now_s = time.monotonic()
        if now_s >= self._count_l2_at_s:
            self._count_l2_at_s = now_s + COUNT_L2_EVERY_S
            try:
                keys = islice(self._cache.l2.scan("*"), MOST_COUNTED)
                self._l2 = Counter(map(self._cache.codecs.name_of, keys))
            except (RedisError, OSError):
                self._l2 = None
        return self._l2


def _row(status: dict[str, Any]) -> dict[str, Any]:
    """What the table shows of a worker's status."""
    return {
        "worker": status["worker"].rpartition(":")[0],
        "mode": status["mode"],
        "l1_entries": dict(status["l1_entries_by_entity"]),
        "l1_evictions": status["l1_evictions"],
        "heard_s_ago": status["heard_s_ago"],
        "sequence": status["sequence"],
        "sent": _invalidations(status["tiers"], "l2"),
        "heard": _invalidations(status["tiers"], "channel"),
        "gaps": status["tiers"].get("channel", {}).get("-", {}).get("gap", 0),
        "breakers": {"redis": status["redis_breaker"], **status["breakers"]},
        "answered_ms": status.get("after_ms"),
    }


def _invalidations(tiers: dict[str, dict[str, dict[str, int]]], tier: str) -> int:
    return sum(events.get("invalidation", 0) for events in tiers.get(tier, {}).values())


class Entry:
    """One entity, looked up and invalidated. Raises CacheUnavailable while Redis is away."""

    def __init__(self, container: Container) -> None:
        self._lookups = container.lookups
        self._cache = container.lookups.cache

    def explain(self, entity: str, id_: str) -> dict[str, Any]:
        """What Redis and each worker hold of it; values are told apart by digests and not shown."""
        key = f"{entity}_{id_}"
        with _redis_needed():
            l2 = self._in_redis(key)
            answers = self._cache.worker_queries.query("explain", timeout_s=ANSWER_WITHIN_S, key=key)
            return {
                "key": key,
                "l2": l2,
                "workers": [
                    {
                        "worker": answer["worker"].rpartition(":")[0],
                        "after_ms": answer["after_ms"],
                        "l1": answer["l1"],
                        "same_as_l2": _same(answer["l1"], l2["digest"]),
                        "last_event": next(iter(answer["events"]), None),
                    }
                    for answer in sorted(answers, key=lambda answer: str(answer["worker"]))
                ],
                "workers_expected": self._cache.worker_queries.listeners(),
            }

    def invalidate(self, entity: str, id_: str) -> dict[str, Any]:
        """Drop it everywhere; whoever has answered afterwards has handled the message."""
        began_s = time.monotonic()
        self._lookups.invalidate(entity, [id_])
        took_ms = (time.monotonic() - began_s) * 1000
        with _redis_needed():
            expected = self._cache.worker_queries.listeners()
            answers = self._cache.worker_queries.query("heard", timeout_s=HEARD_WITHIN_S)
        return {
            "key": f"{entity}_{id_}",
            "took_ms": round(took_ms, 3),
            "workers": [
                {"worker": answer["worker"].rpartition(":")[0], "after_ms": answer["after_ms"]}
                for answer in answers
            ],
            "workers_expected": expected,
        }

    def _in_redis(self, key: str) -> dict[str, Any]:
        keys, client = self._cache.keys, self._cache.l2.client
        with client.pipeline(transaction=False) as pipeline:
            pipeline.get(keys.data(key))
            pipeline.pttl(keys.data(key))
            pipeline.exists(keys.stale_copy(key))
            pipeline.exists(keys.absent(key))
            pipeline.exists(keys.lease(key))
            payload, left_ms, copy, absent, lease = pipeline.execute(raise_on_error=False)
        there = isinstance(payload, bytes)
        value = self._cache.codecs.decode(key, payload) if there else None
        return {
            "there": there,
            "bytes": len(payload) if there else 0,
            "left_s": left_ms / 1000 if there and left_ms >= 0 else None,
            "digest": None if value is None else digest(self._cache.codecs, key, value),
            "last_known_copy": copy == 1,
            "known_to_be_absent": absent == 1,
            "being_loaded": lease == 1,
        }


def _same(l1: dict[str, Any] | None, digest_in_l2: str | None) -> bool | None:
    """None where either has no value to compare."""
    if l1 is None or l1["absent"] or digest_in_l2 is None:
        return None
    return bool(l1["digest"] == digest_in_l2)


@contextmanager
def _redis_needed() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise CacheUnavailable(f"Redis does not answer: {type(error).__name__}") from error
