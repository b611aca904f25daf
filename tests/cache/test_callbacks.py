"""What users hand to the cache may raise: that costs one call, and neither a load nor the listener."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import redis

from servease_appt.cache import Event, Mode, Stats, Tier
from servease_appt.cache.companion import NoCompanion
from servease_appt.cache.group_commit import GroupCommit
from tests.cache.conftest import Background, MakeCache
from tests.cache.testbed import (
    CODECS,
    LIMIT_S,
    PREFIX,
    Source,
    Versioned,
    eventually,
    monkeypatch,
    policy,
    settle,
)

K = "customer_1"
V1 = Versioned("1", 1)


class Raising(Stats):
    """A recorder and observer that raises, and counts what it is told all the same."""

    def count(self, tier: Tier, event: Event, entity: str, n: int = 1) -> None:
        super().count(tier, event, entity, n)
        raise OSError("the disk is full")

    def redis_operation(self, *_: object) -> None:
        raise OSError("the disk is full")

    breaker_changed = redis_operation


def test_a_recorder_that_raises_costs_nothing(make_cache: MakeCache, source: Source) -> None:
    """Loads are stored and answered. Seen to fail: after the first fault every load of the process timed out."""
    raising = Raising()
    cache = make_cache(recorder=raising, observer=raising, policy=policy(load_timeout_s=2.0))
    for n in range(4):
        source.put(f"customer_{n}")
        assert cache.get(f"customer_{n}", source.load) == Versioned(str(n), 1)
    assert raising.get(Tier.L2, Event.FILL) == 4
    cache.breaker.failed()
    eventually(lambda: cache.mode is Mode.BOTH, "the end of the outage")


def test_a_commit_that_raises_does_not_stop_the_next(background: Background) -> None:
    """One batch is lost to the fault; those behind it are committed."""
    committed: list[int] = []

    def commit(batch: list[int]) -> None:
        committed.extend(batch)
        if batch == [1]:
            raise RuntimeError("a bug")

    commits = GroupCommit(commit)
    for item in (1, 2):
        commits.add(item)
        background.submit(commits.drain).result(LIMIT_S)
    assert committed == [1, 2]


def test_a_store_that_fails_in_a_new_way_ends_its_flights(make_cache: MakeCache, source: Source) -> None:
    """Whatever goes wrong while values are stored, their readers are answered."""
    cache = make_cache(policy=policy(load_timeout_s=5.0))
    source.put(K)

    def fail(*_: object) -> Any:
        raise RuntimeError("a bug")

    monkeypatch(cache.l2, "fill", fail)
    assert cache.get(K, source.load) == V1
    assert K not in cache._process.flights._by_key


def test_a_pulse_that_raises_ends_no_listener(
    make_cache: MakeCache, source: Source, client: redis.Redis
) -> None:
    """Also while it is not connected. Seen to fail: the thread ended for good."""
    cache = make_cache()
    pulsed = threading.Event()

    class Failing(NoCompanion):
        def pulse(self) -> None:
            pulsed.set()
            raise RuntimeError("a bug in a companion")

    cache.attach(Failing())
    client.client_kill_filter(_type="pubsub")
    assert pulsed.wait(LIMIT_S)
    eventually(lambda: cache.mode is Mode.BOTH, "the new connection")
    assert cache.channel is not None
    assert cache.channel.alive


def test_an_id_that_can_not_be_spelled_is_unreadable(make_cache: MakeCache, client: redis.Redis) -> None:
    """A codec that raises for an id of a message costs that message, and not the channel."""

    def canonical(rest: str) -> str:
        return str(int(rest))

    codecs = tuple(replace(codec, canonical=canonical) for codec in CODECS)
    cache = make_cache(codecs=codecs)
    client.publish(f"{PREFIX}:invalidate", "customer_nonsense")
    settle(cache)
    counts: Any = cache.recorder
    assert counts.get(Tier.CHANNEL, Event.UNREADABLE) == 1
    assert counts.get(Tier.CHANNEL, Event.RECONNECT) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_that_died_is_started_anew(make_cache: MakeCache, source: Source) -> None:
    """The next reader that comes to L2 notices, and it is counted."""
    cache = make_cache()
    listener: Any = cache._process.listener
    source.put(K)

    def die() -> None:
        del listener._queue.seconds_to_next_step
        raise SystemExit

    monkeypatch(listener._queue, "seconds_to_next_step", die)
    eventually(lambda: not listener.alive, "the death")
    assert cache.get(K, source.load) == V1
    eventually(lambda: cache.mode is Mode.BOTH, "the new listener")
    counts: Any = cache.recorder
    assert counts.get(Tier.CHANNEL, Event.ERROR) == 1
