"""The waiting of those who share a load: each line of it matters, and only a race would show that one is wrong."""

import time

import pytest

from servease_appt.cache.single_flight import Flight, Flights, Latch, Outcome
from tests.cache.conftest import Background
from tests.cache.world import LIMIT_S, eventually


def landed(latch: Latch) -> bool:
    """Whether all that it expects has landed, without waiting."""
    return latch.wait(0)


class TestLatch:
    """Counting down and waking."""

    def test_all_must_land(self) -> None:
        """What is expected adds up, and the last one counts."""
        latch = Latch()
        latch.expect(1)
        latch.expect(2)
        for _ in range(2):
            latch.count_down()
            assert not landed(latch)
        latch.count_down()
        assert landed(latch)

    def test_nothing_expected_is_nothing_to_wait_for(self) -> None:
        """A caller whose keys were all found does not wait."""
        assert Latch().wait(LIMIT_S)

    def test_the_last_landing_ends_a_wait(self, background: Background) -> None:
        """At once, not when the time is over; the landings before it don't end it."""
        latch = Latch()
        latch.expect(2)
        waiting = background.submit(latch.wait, LIMIT_S)
        for _ in range(2):
            eventually(lambda: vars(latch._condition)["_waiters"], "the waiting")
            assert not waiting.done()
            latch.count_down()
        assert waiting.result(LIMIT_S / 2) is True

    def test_a_wake_counts_once_also_when_it_comes_before_the_wait(self) -> None:
        """A change between two looks is not missed, and the wait after it is a full one again."""
        latch = Latch()
        latch.expect(1)
        latch.wake()
        assert _seconds(latch, LIMIT_S) < LIMIT_S / 2
        assert _seconds(latch, 0.05) >= 0.05

    @pytest.mark.parametrize("timeout_s", [0.0, -1.0])
    def test_no_time_left_is_no_wait(self, timeout_s: float) -> None:
        """The deadline may have passed before the wait begins."""
        latch = Latch()
        latch.expect(1)
        assert _seconds(latch, timeout_s) < 0.5


def _seconds(latch: Latch, timeout_s: float) -> float:
    """How long a wait took in which not all landed."""
    started = time.monotonic()
    assert not latch.wait(timeout_s)
    return time.monotonic() - started


class TestFlights:
    """Who joins which flight."""

    def test_a_new_flight_has_no_result(self) -> None:
        """Neither a value nor a last known one, until it has landed."""
        flight: Flight[str] = Flight("a", Latch())
        assert (flight.key, flight.outcome, flight.value, flight.copy) == ("a", None, None, None)

    def test_joining_before_anybody_asks_l2(self) -> None:
        """Only what is under way is joined; its landing is waited for, and nothing else."""
        flights: Flights[str] = Flights()
        latch = Latch()
        assert flights.join(["a"], latch) == {}
        led, _ = flights.join_or_lead(["a", "b"], Latch())
        assert flights.join(["b", "c"], latch) == {"b": led["b"]}
        led["a"].land(Outcome.LOADED, "of no concern")
        assert not landed(latch)
        led["b"].land(Outcome.LOADED, "value")
        assert landed(latch)

    def test_a_flight_that_has_ended_makes_room_for_the_next(self) -> None:
        """Each flight knows its key."""
        flights: Flights[str] = Flights()
        led, _ = flights.join_or_lead(["a", "b"], Latch())
        flights.finish(led["a"])
        led_next, joined = flights.join_or_lead(["a", "b"], Latch())
        assert (list(led_next), list(joined)) == (["a"], ["b"])

    def test_an_invalidation_of_what_nobody_loads(self) -> None:
        """There is nothing to detach, and the others stay."""
        flights: Flights[str] = Flights()
        led, _ = flights.join_or_lead(["a"], Latch())
        flights.detach(["unknown"])
        assert flights.join(["a"], Latch()) == led

    def test_only_the_leader_of_the_key_is_woken(self) -> None:
        """Those who joined wait for the landing, and other keys' leaders have no reason to look."""
        flights: Flights[str] = Flights()
        leader, follower, other = Latch(), Latch(), Latch()
        flights.join_or_lead(["a"], leader)
        flights.join(["a"], follower)
        flights.join_or_lead(["b"], other)
        flights.wake(["a", "unknown"])
        assert _seconds(leader, LIMIT_S) < LIMIT_S / 2
        assert _seconds(follower, 0.05) >= 0.05
        assert _seconds(other, 0.05) >= 0.05
