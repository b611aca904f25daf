"""Calls of loaders: what they return or raise becomes one result for each key."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from servease_appt.cache.codecs import Codecs
from servease_appt.cache.errors import CacheError, LoadDenied, LoadFailed, ValueNotFound
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.l1 import NOT_FOUND, NotFound
from servease_appt.cache.load_failures import FailureLog
from servease_appt.cache.loaders import BatchLoader, Load, Loaded
from servease_appt.cache.single_flight import Outcome
from servease_appt.cache.stats import Event, Tier

V = TypeVar("V")


class LoadResult(NamedTuple, Generic[V]):
    """The result of one load. `value` is `NOT_FOUND` for every outcome but `LOADED`."""

    outcome: Outcome
    value: V | NotFound = NOT_FOUND
    payload: bytes = b""
    ttl_s: float | None = None
    """TTL that the loader set, in seconds; None: as the policy says."""
    keep: bool = True
    """False if the value must be stored in neither tier."""


class LoadCalls(Generic[V]):
    """Calls loaders. No exception of a loader is raised. Thread-safe."""

    def __init__(self, codecs: Codecs[V], event_log: EventLog, clock: Callable[[], float]) -> None:
        self._codecs = codecs
        self._event_log = event_log
        self._failures = FailureLog(clock)

    def call(self, key: str, load: Load[V], deadline_s: float) -> LoadResult[V]:
        """Load one key."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return self._overdue((key,))[key]
        try:
            return self._encoded(key, load(key, left_s))
        except BaseException as error:  # noqa: BLE001 - a failed load becomes a fallback, whatever it failed of
            return self._failed((key,), error)

    def call_many(
        self, keys: Sequence[str], load: BatchLoader[V], deadline_s: float
    ) -> dict[str, LoadResult[V]]:
        """Load several keys by one call. A key that is missing in the answer has no value."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return self._overdue(keys)
        try:
            answers = _checked(load.load_many(keys, left_s))
        except BaseException as error:  # noqa: BLE001 - as above
            return dict.fromkeys(keys, self._failed(keys, error))
        results: dict[str, LoadResult[V]] = {}
        for key in keys:
            try:
                answer = answers[key] if key in answers else ValueNotFound(key)
                if isinstance(answer, CacheError):
                    results[key] = self._failed((key,), answer)
                else:
                    results[key] = self._encoded(key, answer)
            except BaseException as error:  # noqa: BLE001 - as above
                results[key] = self._failed((key,), error)
        return results

    def _encoded(self, key: str, answer: V | Loaded[V]) -> LoadResult[V]:
        value: V
        if isinstance(answer, Loaded):
            value, ttl_s, keep = answer.value, answer.ttl_s, answer.keep
        else:
            value, ttl_s, keep = answer, None, True
        codec = self._codecs.of(key)
        payload = codec.encode(value)
        if codec.reread:
            value = codec.decode(payload, key.partition("_")[2])
        return LoadResult(Outcome.LOADED, value, payload, ttl_s, keep)

    def _overdue(self, keys: Sequence[str]) -> dict[str, LoadResult[V]]:
        """Return failures: the load waited too long for a thread. Its source was not called and has not failed."""
        self._event_log.note(Tier.UPSTREAM, Event.OVERDUE, keys)
        return dict.fromkeys(keys, LoadResult[V](Outcome.FAILED))

    def _failed(self, keys: Sequence[str], error: BaseException) -> LoadResult[V]:
        if isinstance(error, ValueNotFound):
            return LoadResult(Outcome.NOT_FOUND)
        if isinstance(error, LoadDenied):
            self._event_log.note(Tier.UPSTREAM, Event.DENIED, keys)
            return LoadResult(Outcome.DENIED)
        cause = error.__cause__ or error if isinstance(error, LoadFailed) else error
        self._event_log.note(Tier.UPSTREAM, Event.ERROR, keys, type(cause).__name__)
        if not isinstance(error, LoadFailed):
            self._failures.note(keys[0], error)
        return LoadResult(Outcome.FAILED)


def _checked(answers: Mapping[str, V | Loaded[V] | CacheError]) -> Mapping[str, V | Loaded[V] | CacheError]:
    if not isinstance(answers, Mapping):
        raise TypeError(f"load_many returns a dict of values by key, not {type(answers).__name__}")
    return answers


def keep_on_not_found(load: Load[V] | BatchLoader[V]) -> Load[V] | BatchLoader[V]:
    """Return a loader for a refresh: one caller's "not found" must not remove the value for other callers."""
    if isinstance(load, BatchLoader):
        load_many = load.load_many

        def refresh_many(keys: Sequence[str], timeout_s: float) -> dict[str, V | Loaded[V] | CacheError]:
            answers = load_many(keys, timeout_s)
            denied = {key: LoadDenied(key) for key in keys}
            found = {key: value for key, value in answers.items() if not isinstance(value, ValueNotFound)}
            return denied | found

        return BatchLoader(refresh_many)
    load_one = load

    def refresh(key: str, timeout_s: float) -> V | Loaded[V]:
        try:
            return load_one(key, timeout_s)
        except ValueNotFound as error:
            raise LoadDenied(key) from error

    return refresh
