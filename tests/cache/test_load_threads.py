"""Which thread runs a load. A source that hangs delays no other source; a refresh takes no value away."""

import threading
from collections.abc import Iterator

import pytest
import redis

from servease_appt.cache import load_threads
from servease_appt.cache.load_threads import LoadThreads
from tests.cache.conftest import Background, MakeCache
from tests.cache.testbed import LIMIT_S, PREFIX, Source, Versioned, eventually, policy

CUSTOMER = "customer_1"
VEHICLES = ["vehicle_1", "vehicle_2", "vehicle_3", "vehicle_4"]


def test_loads_of_one_codec_take_no_threads_of_another(
    make_cache: MakeCache, source: Source, background: Background
) -> None:
    """More loads hang than there are threads; a value of another codec is loaded all the same."""
    cache = make_cache(policy=policy(max_loads=2, load_timeout_s=LIMIT_S))
    gates = [source.hold(key) for key in VEHICLES]
    hanging = background.submit(cache.get_many, VEHICLES, source.load)
    for gate in gates[:2]:
        gate.wait_for_arrival()
    source.put(CUSTOMER)

    assert cache.get(CUSTOMER, source.load) == Versioned("1", 1)

    for gate in gates:
        gate.open()
    hanging.result(LIMIT_S)


def test_a_load_whose_deadline_has_passed_is_not_begun(
    make_cache: MakeCache, source: Source, background: Background
) -> None:
    """It has waited for a thread for too long: nobody waits for its answer, and the source is not asked."""
    cache = make_cache(policy=policy(max_loads=1, load_timeout_s=0.2))
    hung, late, next_one = VEHICLES[:3]
    for key in VEHICLES:
        source.put(key)
    gate = source.hold(hung)
    hanging = background.submit(cache.get, hung, source.load)
    gate.wait_for_arrival()
    assert cache.get(late, source.load) is None

    gate.open()
    hanging.result(LIMIT_S)
    eventually(lambda: cache.get(next_one, source.load), "a load by the thread that is free again")

    assert source.loads[late] == 0
    assert cache.get(late, source.load) == Versioned("2", 1)


def test_a_refresh_that_finds_nothing_keeps_the_value(
    make_cache: MakeCache, source: Source, client: redis.Redis
) -> None:
    """It was asked as one caller, who may see less than others: the value lives on to its expiry."""
    cache = make_cache()
    source.put(CUSTOMER)
    assert cache.get(CUSTOMER, source.load) == Versioned("1", 1)
    left_ms = client.pttl(f"{PREFIX}:{CUSTOMER}")
    source.remove(CUSTOMER)

    def refreshed_twice() -> bool:
        # The first refresh gives its lease back when it is over; only then another one begins.
        cache._process.loader.refresh([CUSTOMER], source.load)
        return source.loads[CUSTOMER] >= 3

    eventually(refreshed_twice, "a second refresh")

    cache.l1.flush()
    assert cache.get(CUSTOMER, source.load) == Versioned("1", 1)
    assert 0 < client.pttl(f"{PREFIX}:{CUSTOMER}") <= left_ms


class Recorded:
    """Runs loads, each of which may hang, and records where they ran and what was stored together."""

    def __init__(self) -> None:
        self.threads: dict[int, str] = {}
        self.stored: list[list[int]] = []
        self.hanging: dict[int, threading.Event] = {}
        self.done = threading.Semaphore(0)
        self._kept: list[int] = []
        self._lock = threading.Lock()

    def run(self, load: int) -> None:
        """Run one load."""
        self.threads[load] = threading.current_thread().name
        if load in self.hanging:
            assert self.hanging[load].wait(LIMIT_S)
        with self._lock:
            self._kept.append(load)

    def finish(self) -> None:
        """Store what is kept."""
        with self._lock:
            kept, self._kept = self._kept, []
        if kept:
            self.stored.append(kept)
            self.done.release(len(kept))

    def wait(self, loads: int) -> None:
        """Wait until so many more loads are stored."""
        for _ in range(loads):
            assert self.done.acquire(timeout=LIMIT_S)


@pytest.fixture
def recorded() -> Recorded:
    """The loads that ran."""
    return Recorded()


@pytest.fixture
def quick_threads(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadThreads[int]]:
    """Threads whose source was quick, however busy this machine is."""
    monkeypatch.setattr(load_threads, "QUICK_S", LIMIT_S)
    monkeypatch.setattr(load_threads, "LOOK_AGAIN_S", LIMIT_S)
    threads: LoadThreads[int] = LoadThreads(["a", "b"], 64, run=recorded.run, finish=recorded.finish)
    assert not threads.start([("a", 0)])
    recorded.wait(1)
    yield threads
    for event in recorded.hanging.values():
        event.set()
    threads.close()


def test_quick_loads_run_on_one_thread_and_are_stored_together(
    quick_threads: LoadThreads[int], recorded: Recorded
) -> None:
    """Handing each to a thread of its own would cost more than the loads."""
    assert quick_threads.start([("a", n) for n in range(1, 20)])
    recorded.wait(19)
    assert len({recorded.threads[n] for n in range(1, 20)}) == 1
    assert recorded.stored == [[0], list(range(1, 20))]


def test_loads_whose_source_is_not_known_to_be_quick_run_side_by_side(
    quick_threads: LoadThreads[int], recorded: Recorded
) -> None:
    """The first of them, and all of a source that was slow."""
    recorded.hanging = {n: threading.Event() for n in range(1, 4)}
    assert not quick_threads.start([("b", n) for n in range(1, 4)])
    eventually(lambda: len(recorded.threads) == 4, "all loads to begin")


def test_a_quick_source_that_hangs_delays_no_other_load(
    quick_threads: LoadThreads[int], recorded: Recorded
) -> None:
    """What ran before it is stored, and what waits behind it is handed to other threads."""
    recorded.hanging = {2: threading.Event()}
    assert quick_threads.start([("a", n) for n in range(1, 5)])
    eventually(lambda: 2 in recorded.threads, "the load that hangs to begin")
    assert quick_threads.hand_out(1)
    recorded.wait(3)
    assert all(2 not in together for together in recorded.stored)


def test_nothing_is_handed_out_twice(quick_threads: LoadThreads[int], recorded: Recorded) -> None:
    """Once each load has a thread, the caller need not look again."""
    recorded.hanging = {n: threading.Event() for n in range(1, 4)}
    quick_threads.start([("a", n) for n in range(1, 4)])
    eventually(lambda: len(recorded.threads) == 2, "the first to begin")
    quick_threads.hand_out()
    eventually(lambda: len(recorded.threads) == 4, "all to begin")
    assert not quick_threads.hand_out(4)


def test_nothing_is_started_after_the_end(quick_threads: LoadThreads[int], recorded: Recorded) -> None:
    """What runs is waited for; what waits is dropped."""
    recorded.hanging = {1: threading.Event()}
    quick_threads.start([("a", 1), ("a", 2)])
    eventually(lambda: 1 in recorded.threads, "the load that hangs to begin")
    closing = threading.Thread(target=quick_threads.close)
    closing.start()
    eventually(lambda: quick_threads._closed, "the end")
    with pytest.raises(RuntimeError, match="closed"):
        quick_threads.start([("a", 3)])
    assert closing.is_alive()
    recorded.hanging[1].set()
    closing.join(LIMIT_S)
    assert recorded.stored == [[0], [1]]


def test_a_page_of_a_source_that_was_quick_and_hangs(
    make_cache: MakeCache,
    source: Source,
    background: Background,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One load hangs; the page's other values reach L2 meanwhile."""
    monkeypatch.setattr(load_threads, "QUICK_S", LIMIT_S)
    cache = make_cache(policy=policy(load_timeout_s=LIMIT_S))
    for key in VEHICLES:
        source.put(key)
    cache.get(VEHICLES[3], source.load)
    gate = source.hold(VEHICLES[0])
    reading = background.submit(cache.get_many, VEHICLES[:3], source.load)
    gate.wait_for_arrival()

    names = [f"{PREFIX}:{key}" for key in VEHICLES[1:3]]
    eventually(lambda: client.exists(*names) == 2, "the other values in L2")

    gate.open()
    reading.result(LIMIT_S)
