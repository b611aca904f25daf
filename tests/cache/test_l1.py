"""L1 on a clock that stands still until it is moved."""

import random
import threading
from collections.abc import Iterable

import pytest

from servease_appt.cache import l1 as memory_module
from servease_appt.cache.l1 import Entry, Memory, Tick


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """The clock of the memory under test."""
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> Memory[str]:
    """A memory of three entries that is trusted for an hour."""
    memory: Memory[str] = Memory(maxsize=3, clock=clock)
    memory.trusted_until_s = clock.now_s + 3600
    return memory


def put(
    memory: Memory[str], keys: Iterable[str], tick: Tick | None = None, life_s: float = 10.0
) -> list[str]:
    """Put each key's own name under it, read at `tick` (now); returns the refused ones."""
    at = tick or memory.tick()
    refused, _ = memory.put_many([(key, Entry(key, at.at_s, at.at_s + life_s)) for key in keys], at)
    return refused


def test_what_is_kept_is_found_until_it_expires(memory: Memory[str], clock: Clock) -> None:
    """An entry is there up to its last moment, and not beyond."""
    put(memory, ["a"])
    clock.now_s += 9.999
    assert memory.get_many(["b", "a"]).values == {"a": "a"}
    assert memory.get_many(["b", "a"]).missing == ["b"]
    clock.now_s += 0.001
    assert memory.get_many(["a"]).values == {}
    assert memory.size() == 0


def test_an_entry_that_has_expired_on_its_way_takes_the_older_one_along(
    memory: Memory[str], clock: Clock
) -> None:
    """What is put with no life left is not kept, and what it replaces is gone, too."""
    put(memory, ["a"])
    put(memory, ["a"], life_s=0.0)
    assert memory.get_many(["a"]).values == {}


def test_the_oldest_is_evicted(memory: Memory[str]) -> None:
    """Full, it drops what has been there for longest, and counts that; a flush is no eviction."""
    put(memory, ["x_a", "x_b", "x_c"])
    put(memory, ["x_a"])
    put(memory, ["y_d"])
    assert memory.get_many(["x_a", "x_b", "x_c", "y_d"]).missing == ["x_b"]
    assert memory.evicted() == {"x": 1}
    memory.flush()
    assert memory.evictions == 1


def test_untrusted_it_serves_the_last_second_only(memory: Memory[str], clock: Clock) -> None:
    """Nobody can say what was missed: only what was read within the last second is served, then nothing; trusted
    again, the rest is served again."""
    put(memory, ["old"])
    clock.now_s += 0.6
    put(memory, ["young"])
    memory.trusted_until_s = clock.now_s
    assert memory.get_many(["old", "young"]).missing == []
    clock.now_s += 0.4
    assert memory.get_many(["old", "young"]).missing == ["old"]
    clock.now_s += 0.6
    assert memory.get_many(["old", "young"]).missing == ["old", "young"]
    memory.trusted_until_s = clock.now_s + 1
    assert memory.get_many(["old", "young"]).missing == []


def test_the_last_second_counts_from_before_the_read(memory: Memory[str], clock: Clock) -> None:
    """A value that took two seconds to come is two seconds old when it comes."""
    memory.trusted_until_s = float("-inf")
    tick = memory.tick()
    clock.now_s += 2.0
    assert put(memory, ["slow"], tick) == []
    assert memory.get_many(["slow"]).missing == ["slow"]


@pytest.mark.parametrize("how", ["invalidate", "invalidate_matching", "flush"])
def test_what_was_read_before_an_invalidation_is_refused(memory: Memory[str], how: str) -> None:
    """A put under a tick from before is refused, under one from behind it is kept (race R1)."""
    before = memory.tick()
    dropped = {
        "invalidate": lambda: memory.invalidate(["a"]),
        "invalidate_matching": lambda: memory.invalidate_matching("a*"),
        "flush": memory.flush,
    }[how]()
    assert dropped == 0
    assert memory.invalidated_since("a", before)
    assert put(memory, ["a"], before) == ["a"]
    after = memory.tick()
    assert not memory.invalidated_since("a", after)
    assert put(memory, ["a"], after) == []


def test_other_keys_are_not_fenced(memory: Memory[str]) -> None:
    """An invalidation of one key refuses no other (race R18)."""
    before = memory.tick()
    memory.invalidate(["a"])
    assert put(memory, ["a", "b"], before) == ["a"]


def test_a_pattern_drops_what_it_matches(memory: Memory[str]) -> None:
    """Held keys go by the pattern; what is on its way is refused whatever it is called."""
    put(memory, ["customer_1", "vehicle_1"])
    before = memory.tick()
    assert memory.invalidate_matching("customer_*") == 1
    assert memory.get_many(["customer_1", "vehicle_1"]).missing == ["customer_1"]
    assert put(memory, ["vehicle_2"], before) == ["vehicle_2"]


def test_suspicion_is_no_invalidation(memory: Memory[str]) -> None:
    """What the server changed is named if held, and has to be compared if it is put later under an older tick."""
    put(memory, ["a"])
    before = memory.tick()
    assert list(memory.suspect(["a", "b"])) == ["a"]
    entry = Entry("b", before.at_s, before.at_s + 10)
    assert memory.put_many([("b", entry)], before) == ([], ["b"])
    assert memory.put_many([("b", entry)], memory.tick()) == ([], [])


def test_only_the_very_entry_is_dropped(memory: Memory[str]) -> None:
    """What was compared and found wanting is dropped, and not what has taken its place meanwhile."""
    put(memory, ["a"])
    compared = memory.held(["a"])["a"]
    put(memory, ["a"])
    assert not memory.drop_if_same("a", compared)
    assert memory.drop_if_same("a", memory.held(["a"])["a"])
    assert memory.size() == 0


def test_too_many_marks_fence_all_keys(memory: Memory[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the room for marks, one floor stands for all keys: more is refused than needed, and never less."""
    monkeypatch.setattr(memory_module, "MAX_MARKS", 4)
    before = memory.tick()
    memory.invalidate(["first"])
    memory.invalidate([f"n{n}" for n in range(10)])
    assert len(memory._invalidated._ticks) <= 4
    assert put(memory, ["first"], before) == ["first"]
    assert put(memory, ["untouched"], before) == ["untouched"]
    assert put(memory, ["first", "untouched"]) == []


def test_many_threads_and_no_order(clock: Clock) -> None:
    """Readers, writers and invalidations on many threads, with entries expiring under them: nothing is raised,
    and nobody gets a value of another key (K7, K12)."""
    memory: Memory[str] = Memory(maxsize=20)
    memory.trusted_until_s = float("inf")
    keys = [f"k{n}" for n in range(40)]
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for _ in range(1500):
                chosen = dice.sample(keys, 5)
                read = memory.get_many(chosen)
                assert all(key == value for key, value in read.values.items())
                put(memory, read.missing, read.tick, life_s=dice.choice([0.0001, 1.0]))
                if dice.random() < 0.1:
                    memory.invalidate(chosen[:1])
                if dice.random() < 0.01:
                    memory.flush()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is to be seen
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert memory.size() <= 20
