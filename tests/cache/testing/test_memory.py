"""The cache on a server in memory: what a bus loses, repeats and delays, at times that the test sets."""

import doctest
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import servease_appt.cache.testing
from servease_appt.cache import CachePolicy, CacheUnavailable, Mode, NoValue, TwoTierCache, json_codec
from servease_appt.cache.testing import HandClock, MemoryServer

K = "customer_1"
CODEC = json_codec("customer")


@pytest.fixture
def clock() -> HandClock:
    """The clock of server and caches."""
    return HandClock()


@pytest.fixture
def server(clock: HandClock) -> MemoryServer:
    """An empty server."""
    return MemoryServer(clock)


@pytest.fixture
def pair(server: MemoryServer) -> Iterator[tuple[TwoTierCache[Any], TwoTierCache[Any]]]:
    """Two caches, each as in a worker of its own, which both hold version 1."""
    policy = CachePolicy(ttl_s=100, l1_ttl_s=60, jitter=0, stale_ttl_s=50)
    with server.cache(CODEC, policy=policy) as a, server.cache(CODEC, policy=policy) as b:
        # The first invalidation on an empty server empties every L1, which would hide what a test is after.
        a.invalidate([K])
        server.settle()
        assert a.get(K, version(1)) == b.get(K, version(1)) == {"version": 1}
        server.settle()
        yield a, b


def version(number: int) -> Callable[[str, float], dict[str, int]]:
    """A loader."""
    return lambda _key, _timeout_s: {"version": number}


@pytest.mark.parametrize("module", ["", ".clock", ".memory_channel", ".memory_server"])
def test_the_examples_run(module: str) -> None:
    """As they stand."""
    names = {**vars(servease_appt.cache.testing), "json_codec": json_codec}
    found = __import__(f"servease_appt.cache.testing{module}", fromlist=["*"])
    result = doctest.testmod(found, extraglobs=names)
    assert result.attempted > 0
    assert result.failed == 0


class TestBus:
    """Messages on their way."""

    def test_an_invalidation_reaches_the_other_worker(self, server: MemoryServer, pair: Any) -> None:
        """Once the server has settled."""
        a, b = pair
        a.invalidate([K])
        server.settle()

        assert b.get(K, version(2)) == {"version": 2}
        assert a.get(K, version(3)) == {"version": 2}, "from L2"

    def test_a_lost_message_is_noticed_at_the_next_heartbeat(
        self, server: MemoryServer, clock: HandClock, pair: Any
    ) -> None:
        """Until then the other worker serves what it has."""
        a, b = pair
        with server.bus.losing():
            a.invalidate([K])
        server.settle()
        assert b.get(K, version(2)) == {"version": 1}
        clock.move(0.6)
        server.settle()

        assert b.get(K, version(2)) == {"version": 2}

    def test_a_repeated_message_changes_nothing(
        self, server: MemoryServer, clock: HandClock, pair: Any
    ) -> None:
        """It is no gap."""
        a, b = pair
        a.get("customer_2", version(1))
        b.get("customer_2", version(1))
        server.settle()
        with server.bus.repeating():
            a.invalidate([K])
        server.settle()
        clock.move(0.6)
        server.settle()

        assert b.l1.keys() == ["customer_2"]

    def test_a_delayed_message_arrives_when_its_time_has_come(
        self, server: MemoryServer, clock: HandClock, pair: Any
    ) -> None:
        """Not before; and L1 is not trusted for longer than a heartbeat allows."""
        a, b = pair
        server.bus.delay_s = 0.4
        a.invalidate([K])
        server.settle()
        assert b.get(K, version(2)) == {"version": 1}
        clock.move(0.3)
        server.settle()
        assert b.get(K, version(2)) == {"version": 1}
        clock.move(0.1)
        server.settle()
        assert b.get(K, version(2)) == {"version": 2}

    def test_a_cut_channel_empties_l1(self, server: MemoryServer, pair: Any) -> None:
        """As soon as the listener is connected anew."""
        _, b = pair
        server.cut_channels()
        server._wait(lambda: b.channel.confirmed and b.l1.size() == 0, "not connected anew")


class TestTime:
    """Lifetimes and the server's end, without waiting."""

    def test_lifetimes(self, server: MemoryServer, clock: HandClock, pair: Any) -> None:
        """L1 for 60 s, L2 for 100, a stale copy for 50 more."""
        _, b = pair
        clock.move(59)
        server.settle()
        assert b.get(K, version(2)) == {"version": 1}
        clock.move(91)
        server.settle()

        def fails(_key: str, _timeout_s: float) -> dict[str, int]:
            raise OSError

        assert b.peek(K).no_value is NoValue.MISS
        assert b.get(K, fails) is None

    def test_a_server_that_is_down(self, server: MemoryServer, clock: HandClock, pair: Any) -> None:
        """Reads go on from the loader, an invalidation raises, and it comes back."""
        a, _ = pair
        server.down = True
        clock.move(2)
        assert a.get(K, version(2)) == {"version": 2}
        assert a.mode is Mode.L1_ONLY
        with pytest.raises(CacheUnavailable):
            a.invalidate([K])

        server.down = False
        clock.move(3)
        server._wait(lambda: a.mode is Mode.BOTH, "L2 is not used again")

    def test_time_does_not_go_back(self, clock: HandClock) -> None:
        """That would be another clock."""
        with pytest.raises(ValueError, match="does not go back"):
            clock.move(-1)
