"""What becomes of loads: whose answers are kept, who waits for whom, and what a failure costs."""

import pytest
import redis

from servease_appt.cache import LoadDenied, Source
from servease_appt.cache.stats import Event, Tier
from tests.cache.conftest import Background, MakeCache
from tests.cache.test_reading import expire_by_hand
from tests.cache.testbed import LIMIT_S, Versioned, eventually, monkeypatch, policy, settle, stop_before
from tests.cache.testbed import Source as Truth

K, OTHER = "customer_1", "customer_2"
V1, V2 = Versioned("1", 1), Versioned("2", 1)


def test_a_value_that_can_not_be_stored_is_a_failed_load(make_cache: MakeCache, source: Truth) -> None:
    """A loader that returns something its kind can't encode costs its own key, and no other load after it.

    Seen to fail with the encoding done while many threads' values were being stored: nothing was stored any more.
    """
    cache = make_cache(policy=policy(load_timeout_s=0.5))
    source.put(OTHER)
    unfit = object()
    assert cache.get(K, lambda _key, _timeout_s: unfit) is None  # type: ignore[arg-type,return-value]
    assert cache.get(OTHER, source.load) == Versioned("2", 1)
    assert cache.recorder.get(Tier.UPSTREAM, Event.ERROR) == 1  # type: ignore[attr-defined]


def test_one_load_for_all_threads(make_cache: MakeCache, source: Truth, background: Background) -> None:
    """Thirty readers of a cold key share one load."""
    cache = make_cache()
    source.put(K)
    held = source.hold(K)
    reading = [background.submit(cache.get, K, source.load) for _ in range(30)]
    held.wait_for_arrival()
    held.open()
    assert {future.result(LIMIT_S) for future in reading} == {V1}
    assert source.loads[K] == 1


def test_l2_is_not_asked_for_what_is_being_loaded(
    make_cache: MakeCache, source: Truth, background: Background
) -> None:
    """A reader joins the load under way, asks Redis for its other keys only, and gets them all."""
    cache = make_cache()
    source.put(K)
    source.put(OTHER)
    assert cache.get(OTHER, source.load) == V2
    cache.l1.flush()
    held = source.hold(K)
    loading = background.submit(cache.get, K, source.load)
    held.wait_for_arrival()
    asked: list[str] = []
    read = cache.l2.read

    def note_and_read(keys: list[str]) -> object:
        asked.extend(keys)
        return read(keys)

    monkeypatch(cache.l2, "read", note_and_read)
    joining = background.submit(cache.get_many, [K, OTHER], source.load)
    eventually(lambda: len(cache._process.flights._by_key[K]._completions) == 2)
    held.open()

    assert loading.result(LIMIT_S) == V1
    found = joining.result(LIMIT_S)
    assert found.values == {K: V1, OTHER: V2}
    assert found.sources == {K: Source.UPSTREAM, OTHER: Source.L2}
    assert asked == [OTHER]


def test_no_copy_stands_in_for_a_load_joined_before_an_invalidation(
    make_cache: MakeCache, source: Truth, background: Background, client: redis.Redis
) -> None:
    """While Redis is asked for a reader's other key, the one whose load it has joined is invalidated. The load
    fails, and no stale copy is shown (race R16)."""
    cache = make_cache(policy=policy(soft_timeout_s=1.5))
    source.put(K)
    source.put(OTHER)
    assert cache.get(K, source.load) == V1
    expire_by_hand(client, cache)
    held = background.gate()

    def fail(key: str, _timeout_s: float) -> Versioned:
        held.pass_through()
        raise RuntimeError(key)

    loading = background.submit(cache.get, K, fail)
    held.wait_for_arrival()
    assert cache._process.flights._by_key[K].stale_value == V1
    asking = background.gate()
    stop_before(cache.l2, "read", asking)
    joining = background.submit(cache.get_many, [K, OTHER], source.load)
    asking.wait_for_arrival()
    cache.invalidate([K])
    settle(cache)
    asking.open()
    held.open()

    assert joining.result(LIMIT_S).values == {K: None, OTHER: V2}
    assert loading.result(LIMIT_S) is None


def test_a_refusal_is_its_callers_alone(make_cache: MakeCache, source: Truth, background: Background) -> None:
    """Who joined a load that was denied asks for himself, and his answer is kept; the refusal is not."""
    cache = make_cache()
    source.put(K)
    denied = background.gate()

    def deny(key: str, _timeout_s: float) -> Versioned:
        denied.pass_through()
        raise LoadDenied(key)

    refused = background.submit(cache.get_many, [K], deny)
    denied.wait_for_arrival()
    joining = background.submit(cache.get_many, [K], source.load)
    while len(cache._process.flights._by_key[K]._completions) < 2:
        pass
    denied.open()
    assert refused.result(LIMIT_S).values == {K: None}
    assert refused.result(LIMIT_S).sources == {K: Source.UNKNOWN}
    assert joining.result(LIMIT_S).values == {K: V1}
    assert source.loads[K] == 1
    assert cache.get_many([K], deny).values == {K: V1}, "kept for everybody, as any value"


def test_a_refusal_is_not_remembered(make_cache: MakeCache, source: Truth) -> None:
    """Each refused caller asks again, and no stale copy stands in."""
    cache = make_cache()
    source.put(K)
    assert cache.get(K, source.load) == V1
    cache.l2.client.delete(cache.keys.data(K))
    cache.l1.flush()
    source.deny(K)
    assert cache.get(K, source.load) is None
    assert cache.get(K, source.load) is None
    assert source.loads[K] == 3


def test_a_key_given_twice_is_one_key(make_cache: MakeCache, source: Truth) -> None:
    """Twice the same key costs one load and no wait for a second one that never comes."""
    cache = make_cache(policy=policy(load_timeout_s=5.0, soft_timeout_s=4.0))
    source.put(K)
    lookup = cache.get_many([K, K], source.load, timeout_s=4.0)
    assert lookup.values == {K: V1}
    assert lookup.upstream_s < 2.0


@pytest.mark.parametrize("error", [OSError("down"), RuntimeError("odd"), TimeoutError()])
def test_a_failure_is_kept_nowhere(make_cache: MakeCache, source: Truth, error: Exception) -> None:
    """Whatever a load fails of, the next reader asks again, at once."""
    cache = make_cache()
    source.put(K)
    source.fail(K, error)
    assert cache.get(K, source.load) is None
    source.fail(K, None)
    assert cache.get(K, source.load) == V1


def test_the_leaders_deadline_frees_those_who_joined(
    make_cache: MakeCache, source: Truth, background: Background
) -> None:
    """A leader that only waits for another worker's lease, and gives up, lets its joiners go with it."""
    other, cache = make_cache(), make_cache(policy=policy(load_timeout_s=20.0))
    source.put(K)
    other.l2.acquire([K], "held", 60_000)
    leading = background.submit(cache.get, K, source.load, timeout_s=0.3)
    while K not in cache._process.flights._by_key:
        pass
    joining = background.submit(cache.get, K, source.load, timeout_s=LIMIT_S)
    assert leading.result(LIMIT_S) is None
    assert joining.result(LIMIT_S / 2) is None
