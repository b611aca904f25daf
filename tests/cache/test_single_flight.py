"""The waiting of those who share a load: each line of it matters, and only a race would show that one is wrong."""

import time

import pytest

from servease_appt.cache.single_flight import Completion, Flight, Flights, Outcome
from tests.cache.conftest import Background
from tests.cache.testbed import LIMIT_S, eventually


def completed(completion: Completion) -> bool:
    """Whether all that it expects has completed, without waiting."""
    return completion.wait(0)


class TestCompletion:
    """Counting down and waking."""

    def test_all_must_land(self) -> None:
        """What is expected adds up, and the last one counts."""
        completion = Completion()
        completion.expect(1)
        completion.expect(2)
        for _ in range(2):
            completion.count_down()
            assert not completed(completion)
        completion.count_down()
        assert completed(completion)

    def test_nothing_expected_is_nothing_to_wait_for(self) -> None:
        """A caller whose keys were all found does not wait."""
        assert Completion().wait(LIMIT_S)

    def test_the_last_completion_ends_a_wait(self, background: Background) -> None:
        """At once, not when the time is over; the completions before it don't end it."""
        completion = Completion()
        completion.expect(2)
        waiting = background.submit(completion.wait, LIMIT_S)
        eventually(waiting.running, "the waiting")
        completion.count_down()
        assert not waiting.done()
        completion.count_down()
        assert waiting.result(LIMIT_S / 2) is True

    def test_a_wake_counts_once_also_when_it_comes_before_the_wait(self) -> None:
        """A change between two looks is not missed, and the wait after it is a full one again."""
        completion = Completion()
        completion.expect(1)
        completion.wake()
        assert _seconds(completion, LIMIT_S) < LIMIT_S / 2
        assert _seconds(completion, 0.05) >= 0.05

    @pytest.mark.parametrize("timeout_s", [0.0, -1.0])
    def test_no_time_left_is_no_wait(self, timeout_s: float) -> None:
        """The deadline may have passed before the wait begins."""
        completion = Completion()
        completion.expect(1)
        assert _seconds(completion, timeout_s) < 0.5


def _seconds(completion: Completion, timeout_s: float) -> float:
    """How long a wait took in which not all completed."""
    started = time.monotonic()
    assert not completion.wait(timeout_s)
    return time.monotonic() - started


class TestFlights:
    """Who joins which flight."""

    def test_a_new_flight_has_no_result(self) -> None:
        """Neither a value nor a last known one, until it has completed."""
        flight: Flight[str] = Flight("a", Completion())
        assert (flight.key, flight.outcome, flight.value, flight.stale_value) == ("a", None, None, None)

    def test_joining_before_anybody_asks_l2(self) -> None:
        """Only what is under way is joined; its landing is waited for, and nothing else."""
        flights: Flights[str] = Flights()
        completion = Completion()
        assert flights.join(["a"], completion) == {}
        led, _ = flights.join_or_lead(["a", "b"], Completion())
        assert flights.join(["b", "c"], completion) == {"b": led["b"]}
        led["a"].complete(Outcome.LOADED, "of no concern")
        assert not completed(completion)
        led["b"].complete(Outcome.LOADED, "value")
        assert completed(completion)

    def test_a_flight_that_has_ended_makes_room_for_the_next(self) -> None:
        """Each flight knows its key."""
        flights: Flights[str] = Flights()
        led, _ = flights.join_or_lead(["a", "b"], Completion())
        flights.finish([led["a"]])
        led_next, joined = flights.join_or_lead(["a", "b"], Completion())
        assert (list(led_next), list(joined)) == (["a"], ["b"])

    def test_an_invalidation_of_what_nobody_loads(self) -> None:
        """There is nothing to detach, and the others stay."""
        flights: Flights[str] = Flights()
        led, _ = flights.join_or_lead(["a"], Completion())
        flights.detach(["unknown"])
        assert flights.join(["a"], Completion()) == led

    def test_only_the_leader_of_the_key_is_woken(self) -> None:
        """Those who joined wait for the landing, and other keys' leaders have no reason to look."""
        flights: Flights[str] = Flights()
        leader, follower, other = Completion(), Completion(), Completion()
        flights.join_or_lead(["a"], leader)
        flights.join(["a"], follower)
        flights.join_or_lead(["b"], other)
        flights.wake(["a", "unknown"])
        assert _seconds(leader, LIMIT_S) < LIMIT_S / 2
        assert _seconds(follower, 0.05) >= 0.05
        assert _seconds(other, 0.05) >= 0.05
