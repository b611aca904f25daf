"""Loaders that end in unusual ways, or not at all."""

from concurrent.futures import CancelledError
from typing import Any

import pytest

from servease_appt.cache import Event, Tier
from tests.cache.conftest import Background, MakeCache
from tests.cache.testbed import LIMIT_S, Source, Versioned, eventually, policy

K, OTHER = "customer_1", "customer_2"
V1 = Versioned("1", 1)


class Timeout(BaseException):
    """As gevent's."""


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, CancelledError, Timeout])
def test_whatever_a_loader_raises_ends_its_flight(
    error: type[BaseException], make_cache: MakeCache, source: Source
) -> None:
    """The load has failed, its lease is given back, and the next reader loads.

    Seen to fail for what is no Exception: every later reader joined a flight that never ended.
    """
    cache = make_cache(policy=policy(load_timeout_s=5.0))
    source.put(K)

    def fail(_key: str, _timeout_s: float) -> Versioned:
        raise error

    assert cache.get(K, fail) is None
    assert cache.get(K, source.load) == V1


def test_nobody_joins_a_load_past_its_deadline(
    make_cache: MakeCache, source: Source, background: Background
) -> None:
    """A loader that ignores its timeout costs its own readers the deadline, and later ones nothing."""
    cache = make_cache(policy=policy(load_timeout_s=0.3))
    source.put(K)
    held = source.hold(K)
    assert cache.get(K, source.load) is None
    source.release(K)
    try:
        # Its lease stands: the reader waits for it, and takes it over.
        lookup = background.submit(cache.get_many, [K], source.load, timeout_s=LIMIT_S).result(LIMIT_S)
        assert lookup.values == {K: V1}
    finally:
        held.open()


def test_what_is_too_late_is_not_begun(make_cache: MakeCache, source: Source, background: Background) -> None:
    """A load that waited for a thread beyond its deadline asks nobody, and is no failure of the source."""
    cache = make_cache(policy=policy(load_timeout_s=0.3, max_loads=1))
    source.put(K)
    source.put(OTHER)
    held = source.hold(K)
    hung = background.submit(cache.get, K, source.load)
    held.wait_for_arrival()
    assert cache.get(OTHER, source.load) is None
    assert hung.result(LIMIT_S) is None
    counts: Any = cache.recorder
    held.open()
    eventually(lambda: counts.get(Tier.UPSTREAM, Event.OVERDUE) == 1, "the load that was not begun")
    assert source.loads[OTHER] == 0
    assert counts.get(Tier.UPSTREAM, Event.ERROR) == 0


def test_a_worker_that_lost_its_channel_joins_no_load_from_before(
    make_cache: MakeCache, source: Source, background: Background
) -> None:
    """It will not hear which of them an invalidation voids, so that they are detached."""
    cache = make_cache(policy=policy(load_timeout_s=8.0))
    source.put(K)
    held = source.hold(K)
    loading = background.submit(cache.get, K, source.load)
    held.wait_for_arrival()
    assert K in cache._process.flights._by_key
    cache._process.listener.stop()  # so that no new connection detaches them
    assert K not in cache._process.flights._by_key
    held.open()
    assert loading.result(LIMIT_S) == V1


@pytest.mark.parametrize(("age_s", "loads"), [(0.0, 1), (1.5, 2)])
def test_without_trust_only_young_loads_are_joined(
    age_s: float, loads: int, make_cache: MakeCache, source: Source, background: Background
) -> None:
    """A worker that hears nothing serves what is a second old, be it from L1 or from a load.

    Seen to fail: a reader joined a load that had begun long before an invalidation, and was given the old value.
    """
    cache = make_cache(ready=False, listen=False, policy=policy(load_timeout_s=8.0))
    cache._process.loader.patience_s = 0.0
    source.put(K)
    held = source.hold(K)
    first = background.submit(cache.get, K, source.load)
    held.wait_for_arrival()
    cache._process.flights._by_key[K].began_at_s -= age_s
    source.release(K)
    second = background.submit(cache.get, K, source.load)
    if loads == 1:
        flight = cache._process.flights._by_key[K]
        eventually(lambda: len(flight._completions) == 2, "the join")
        held.open()
    assert second.result(LIMIT_S) == V1
    assert source.loads[K] == loads
    held.open()
    assert first.result(LIMIT_S) == V1
