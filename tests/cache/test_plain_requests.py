"""A plain PUBLISH is carried out by one worker, and is not lost when that fails."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from servease_appt.cache import Event, Mode, Tier
from servease_appt.cache.election import LONGEST_DELAY_S, draw_delay_s
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.messages import STARTS, Invalidation
from servease_appt.cache.plain_requests import BATCH, MAX_PENDING, MAX_REFUSALS, PlainRequests
from servease_appt.cache.stats import Stats
from servease_appt.testing.fault_proxy import Proxy
from tests.cache.conftest import MakeCache
from tests.cache.testbed import PREFIX, Cache, Source, Versioned, eventually, held_in_l1, policy, settle

K, OTHER = "customer_1", "customer_2"
CHANNEL = f"{PREFIX}:invalidate"
NEVER_S = 3600.0


class ByHand:
    """Requests whose background work is done when the test says so, and what was carried out."""

    def __init__(self, *, elected: bool = True) -> None:
        self.done: list[Invalidation] = []
        self.fails = False
        self.received = self.counted = 5
        self.tried: list[int | None] = []
        self.announced: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self._waiting: list[Callable[[], None]] = []
        self.requests = PlainRequests(
            self._carry_out,
            announce_start=self._announce_start,
            elected=elected,
            sequence=lambda: self.received,
            event_log=EventLog(Stats(), lambda key: key),
            submit=self._waiting.append,
        )
        self.requests.delay_s = lambda: 0.0

    def _carry_out(self, request: Invalidation, if_at: int | None) -> int | None:
        self.meanwhile()
        if self.fails:
            raise L2Unavailable("down")
        self.tried.append(if_at)
        if if_at not in (None, self.counted):
            return None
        self.counted += 1
        self.done.append(request)
        return self.counted

    def _announce_start(self, pattern: str) -> None:
        if self.fails:
            raise L2Unavailable("down")
        self.announced.append(pattern)

    def run_once(self) -> None:
        """Do one thing that is waiting for a thread."""
        self._waiting.pop()()

    def run(self) -> None:
        """Do what is waiting for a thread."""
        while self._waiting:
            self._waiting.pop()()


def test_what_another_worker_has_done_is_left() -> None:
    """A numbered message behind the request names the key."""
    by_hand = ByHand()
    by_hand.requests.add(Invalidation(keys=(K, OTHER)), 5)
    by_hand.requests.covered(Invalidation(keys=(K,), sequence=6))
    by_hand.run()
    assert [request.keys for request in by_hand.done] == [(OTHER,)]
    assert by_hand.requests.pending() == 0


def test_a_message_ahead_of_a_request_covers_nothing() -> None:
    """Its deletion happened before the request was published: no later request is swallowed."""
    by_hand = ByHand()
    by_hand.requests.add(Invalidation(keys=(K,)), 5)
    by_hand.requests.covered(Invalidation(keys=(K,), sequence=6))
    by_hand.requests.add(Invalidation(keys=(K,)), 6)
    by_hand.run()
    assert len(by_hand.done) == 1


def test_a_request_that_comes_during_the_work_is_carried_out_anew() -> None:
    """The script may have run before it was published."""
    by_hand = ByHand()

    def again() -> None:
        by_hand.meanwhile = lambda: None
        by_hand.requests.add(Invalidation(keys=(K,)), 5)

    by_hand.meanwhile = again
    by_hand.requests.add(Invalidation(keys=(K,)), 5)
    by_hand.run()
    assert [request.keys for request in by_hand.done] == [(K,), (K,)]


def test_what_fails_is_tried_again_at_the_next_heartbeat() -> None:
    """Until it is done, and not without end in between."""
    by_hand = ByHand()
    by_hand.fails = True
    by_hand.requests.add(Invalidation(keys=(K,)), 5)
    by_hand.requests.add(Invalidation(pattern="vehicle_*"), 5)
    by_hand.run()
    by_hand.requests.begin()
    by_hand.run()
    assert by_hand.requests.pending() == 2
    by_hand.fails = False
    by_hand.requests.begin()
    by_hand.run()
    assert [request.keys or request.pattern for request in by_hand.done] == [(K,), "vehicle_*"]
    assert by_hand.requests.pending() == 0


def test_what_was_announced_meanwhile_is_waited_for() -> None:
    """The script did nothing, since the sequence was ahead; the message that follows covers the request."""
    by_hand = ByHand()
    by_hand.counted = 6
    by_hand.requests.add(Invalidation(keys=(K,)), 5)
    by_hand.run_once()
    assert (by_hand.done, by_hand.requests.pending()) == ([], 1)
    by_hand.received = 6
    by_hand.requests.covered(Invalidation(keys=(K,), sequence=6))
    by_hand.run()
    assert (by_hand.done, by_hand.tried) == ([], [5])


@pytest.mark.parametrize("request_", [Invalidation(keys=(K,)), Invalidation(pattern="customer_*")])
def test_a_request_is_carried_out_at_last_whatever_is_announced(request_: Invalidation) -> None:
    """A steady stream of other announcements, or a sequence that this worker has wrong, swallows no request."""
    by_hand = ByHand()
    by_hand.counted = 99
    by_hand.requests.add(request_, 5)
    by_hand.run()
    assert by_hand.tried == [5] * MAX_REFUSALS + [None]
    assert by_hand.done == [request_]
    assert by_hand.requests.pending() == 0


def test_scans_that_last_are_announced_again_at_each_heartbeat() -> None:
    """Else the others wait for a second only, and then each scans the whole database, too."""
    by_hand = ByHand()

    def two_heartbeats() -> None:
        for fails in (False, True, False):
            by_hand.fails = fails
            by_hand.requests.on_beat()
            by_hand.run()
        by_hand.meanwhile = lambda: None

    by_hand.meanwhile = two_heartbeats
    by_hand.requests.add(Invalidation(pattern="customer_*"), 5)
    by_hand.run()
    by_hand.requests.on_beat()
    by_hand.run()
    assert by_hand.announced == ["customer_*"] * 2
    assert len(by_hand.done) == 1


def test_a_start_that_is_announced_again_keeps_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it comes more often than every second."""
    now_s = [100.0]
    monkeypatch.setattr("servease_appt.cache.plain_requests.time.monotonic", lambda: now_s[0])
    by_hand = ByHand()
    by_hand.requests.add(Invalidation(pattern="customer_*"), 5)
    for _ in range(10):
        by_hand.requests.covered(Invalidation(pattern="customer_*", sequence=6, began=STARTS))
        now_s[0] += 0.9
        by_hand.requests.on_beat()
        by_hand.run()
    assert by_hand.done == []
    now_s[0] += 0.7
    by_hand.requests.on_beat()
    by_hand.run()
    assert len(by_hand.done) == 1


def test_a_message_that_is_received_during_the_work_counts_as_not_received() -> None:
    """What is pending was looked at before the message covered it."""
    by_hand = ByHand()
    by_hand.requests.add(Invalidation(pattern="customer_*"), 5)
    lock, by_hand.counted = by_hand.requests._lock, 6

    class Late:
        """The lock, behind whose release the listener handles the start of another worker's scans."""

        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()
            by_hand.received = 6

    by_hand.requests._lock = Late()  # type: ignore[assignment]
    by_hand.run_once()
    assert (by_hand.done, by_hand.tried) == ([], [5])


def test_the_second_batch_waits_for_no_message_of_the_first() -> None:
    """A worker knows the number of its own announcement before its message returns."""
    by_hand = ByHand()
    by_hand.requests.add(Invalidation(keys=tuple(f"customer_{n}" for n in range(2 * BATCH))), 5)
    by_hand.run()
    assert by_hand.tried == [5, 6]


def test_a_pattern_is_left_to_scans_that_began_behind_it() -> None:
    """The start is a claim; only an end whose start came behind the request takes it away."""
    by_hand = ByHand()
    by_hand.requests.add(Invalidation(pattern="customer_*"), 5)
    by_hand.requests.covered(Invalidation(pattern="customer_*", sequence=6, began=STARTS))
    by_hand.run()
    assert by_hand.done == []
    by_hand.requests.add(Invalidation(pattern="customer_*"), 6)
    by_hand.requests.covered(Invalidation(pattern="customer_*", sequence=7, began=6))
    assert by_hand.requests.pending() == 1
    by_hand.requests.covered(Invalidation(pattern="*", sequence=9, began=8))
    assert by_hand.requests.pending() == 0


@pytest.mark.parametrize("began", [None, 5])
def test_other_ends_take_no_pattern_away(began: int | None) -> None:
    """Nobody can say when an older version's scans began, and these began too early."""
    by_hand = ByHand()
    by_hand.requests.add(Invalidation(pattern="customer_*"), 5)
    by_hand.requests.covered(Invalidation(pattern="customer_*", sequence=9, began=began))
    by_hand.run()
    assert len(by_hand.done) == 1


def test_without_one_order_nothing_is_left_to_others() -> None:
    """In a cluster messages of two nodes may overtake each other: each worker does it all."""
    by_hand = ByHand(elected=False)
    by_hand.requests.add(Invalidation(keys=(K,)), 5)
    by_hand.requests.covered(Invalidation(keys=(K,), sequence=6))
    by_hand.run()
    assert len(by_hand.done) == 1


def test_a_great_many_keys_go_in_batches() -> None:
    """No script holds up every page."""
    by_hand = ByHand()
    by_hand.requests.add(Invalidation(keys=tuple(f"customer_{n}" for n in range(10_000))), 5)
    by_hand.run()
    assert [len(request.keys) for request in by_hand.done] == [BATCH] * 20


def test_what_is_pending_is_bounded() -> None:
    """Beyond the room for it everything is dropped, which is right for any of them."""
    by_hand = ByHand()
    by_hand.fails = True
    for start in range(0, MAX_PENDING + 1000, 1000):
        keys = tuple(f"customer_{n}" for n in range(start, start + 1000))
        by_hand.requests.add(Invalidation(keys=keys), 5)
    by_hand.fails = False
    by_hand.run()
    assert [request.pattern for request in by_hand.done] == ["*"]


def test_few_delays_are_short() -> None:
    """Of 1,000 workers about one or two draw a delay within a message's way (1 ms) of the shortest."""
    close = 0
    for _ in range(50):
        drawn = sorted(draw_delay_s() for _ in range(1000))
        assert 0 <= drawn[0] <= drawn[-1] <= LONGEST_DELAY_S
        close += sum(delay_s < drawn[0] + 0.001 for delay_s in drawn)
    assert close / 50 < 3


def workers(make_cache: MakeCache, count: int, source: Source) -> list[Cache]:
    """Caches that have read a key; only the first draws a short delay."""
    caches = [make_cache() for _ in range(count)]
    for cache in caches[1:]:
        cache._process.requests.delay_s = lambda: NEVER_S
    source.put(K)
    for cache in caches:
        assert cache.get(K, source.load) == Versioned("1", 1)
    settle(*caches)
    return caches


def sequence(client: redis.Redis) -> int:
    """How many invalidations the server has counted."""
    counted: Any = client.get(f"{PREFIX}:__seq")
    return int(counted)


@pytest.mark.parametrize("request_", [Invalidation(keys=(K,)), Invalidation(pattern="customer_*")])
def test_redis_does_nothing_if_something_was_announced_that_the_worker_has_not_received(
    request_: Invalidation, make_cache: MakeCache, source: Source, client: redis.Redis
) -> None:
    """Else each of the many workers whose delay ends before the first one's message has arrived would tell all."""
    (cache,) = workers(make_cache, 1, source)
    before = sequence(client)
    assert cache.l2.carry_out(request_, "me", if_at=before - 1) is None
    settle(cache)
    assert sequence(client) == before
    assert held_in_l1(cache, K) == Versioned("1", 1)
    assert client.exists(f"{PREFIX}:{K}")
    assert cache.l2.carry_out(request_, "me", if_at=before) == sequence(client)
    settle(cache)
    assert held_in_l1(cache, K) is None
    assert not client.exists(f"{PREFIX}:{K}")


@pytest.mark.parametrize("payload", [K, '{"pattern": "customer_*"}'])
def test_one_worker_of_many_carries_it_out(
    payload: str, make_cache: MakeCache, source: Source, client: redis.Redis
) -> None:
    """Twelve workers hear it, one script runs (and one scan); nothing is pending anywhere afterwards.

    Seen to fail: there were as many scripts as workers, each of which told every worker.
    """
    caches = workers(make_cache, 12, source)
    scripts = 1 if payload == K else 2  # the start of the scans is told, too
    before = sequence(client)
    source.put(K)
    client.publish(CHANNEL, payload)
    eventually(lambda: sequence(client) >= before + scripts, "the work")
    settle(*caches)
    eventually(lambda: not any(cache._process.requests.pending() for cache in caches), "the end of waiting")
    assert sequence(client) == before + scripts
    for cache in caches:
        assert cache.get(K, source.load) == Versioned("1", 2)


def test_a_request_survives_a_data_link_that_is_down(
    make_cache: MakeCache, source: Source, client: redis.Redis, proxy: Proxy
) -> None:
    """Heard while the data links are dead and the channel lives, it is carried out when they are back.

    Seen to fail: the old value was served from L2 to its end.
    """
    cache = make_cache(url=proxy.url(), policy=policy(load_timeout_s=5.0))
    source.put(K)
    assert cache.get(K, source.load) == Versioned("1", 1)
    settle(cache)
    proxy.data.black_hole()
    source.put(K)
    client.publish(CHANNEL, K)
    counts: Any = cache.recorder
    eventually(lambda: counts.get(Tier.L2, Event.FAILED_INVALIDATION), "the failure")
    proxy.data.heal()
    eventually(lambda: not client.exists(f"{PREFIX}:{K}"), "the deletion")
    eventually(lambda: cache.mode is Mode.BOTH, "the end of the outage")
    assert cache.get(K, source.load) == Versioned("1", 2)
    assert held_in_l1(cache, K) == Versioned("1", 2)
