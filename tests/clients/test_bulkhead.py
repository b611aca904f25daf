"""A bulkhead keeps callers of a hung service from taking all threads, and does not disturb a healthy one."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from servease_appt.clients.bulkhead import Bulkhead, BulkheadFull

LIMIT_S = 30.0


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bulkhead(clock: Clock) -> Bulkhead:
    return Bulkhead(2, slow_s=5.0, longest_wait_s=LIMIT_S, clock=clock)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_as_many_as_there_are_places(bulkhead: Bulkhead, clock: Clock) -> None:
    """Go in at once; once one of them is held up, the next is refused at once."""
    with bulkhead.place(), bulkhead.place():
        clock.now += 5.0
        with pytest.raises(BulkheadFull), bulkhead.place():
            pass
    with bulkhead.place(), bulkhead.place():
        pass


def test_a_place_that_is_left_is_free_again(bulkhead: Bulkhead) -> None:
    """Also where its holder failed."""
    for _ in range(5):
        with pytest.raises(RuntimeError), bulkhead.place():
            raise RuntimeError
    with bulkhead.place(), bulkhead.place():
        pass


def test_while_those_inside_are_quick_the_next_waits(threads: ThreadPoolExecutor) -> None:
    """And goes in as soon as one of them leaves: a burst is no reason to refuse anybody."""
    bulkhead = Bulkhead(2, slow_s=2 * LIMIT_S, longest_wait_s=2 * LIMIT_S)
    inside = threading.Semaphore(0)
    leave = threading.Semaphore(0)

    def call() -> None:
        with bulkhead.place():
            inside.release()
            assert leave.acquire(timeout=LIMIT_S)

    calls: list[Future[None]] = [threads.submit(call) for _ in range(6)]
    for _ in range(6):
        assert inside.acquire(timeout=LIMIT_S)
        leave.release()
    for done in calls:
        done.result(LIMIT_S)


def test_who_waits_is_refused_when_those_inside_turn_out_to_be_held_up(
    threads: ThreadPoolExecutor,
) -> None:
    """It does not wait for as long as they do."""
    bulkhead = Bulkhead(1, slow_s=0.2, longest_wait_s=LIMIT_S)

    def call() -> None:
        with bulkhead.place():
            pass

    with bulkhead.place():
        waiting = threads.submit(call)
        with pytest.raises(BulkheadFull):
            waiting.result(LIMIT_S)


def test_the_oldest_inside_counts(bulkhead: Bulkhead, clock: Clock) -> None:
    """One that is held up is enough: where it hangs, others will."""
    with bulkhead.place():
        clock.now += 4.0
        with bulkhead.place():
            clock.now += 1.0
            with pytest.raises(BulkheadFull), bulkhead.place():
                pass


def test_nobody_waits_for_ever() -> None:
    """However quick those inside are, others may always be quicker to take their places."""
    bulkhead = Bulkhead(1, slow_s=LIMIT_S, longest_wait_s=0.0)

    with bulkhead.place(), pytest.raises(BulkheadFull), bulkhead.place():
        pass
