"""L1 on a clock that stands still until it is moved."""

import random
import threading
from collections.abc import Iterable

import pytest

from servease_appt.cache import l1 as l1_module
from servease_appt.cache.l1 import L1, Entry, Epoch


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """The clock of the L1 under test."""
    return Clock()


@pytest.fixture
def l1(clock: Clock) -> L1[str]:
    """An L1 of three entries that is trusted for an hour."""
    l1: L1[str] = L1(maxsize=3, clock=clock)
    l1.trusted_until_s = clock.now_s + 3600
    return l1


def put(l1: L1[str], keys: Iterable[str], epoch: Epoch | None = None, life_s: float = 10.0) -> list[str]:
    """Put each key's own name under it, read at `epoch` (now); returns the refused ones."""
    at = epoch or l1.epoch()
    refused, _ = l1.put_many([(key, Entry(key, at.at_s, at.at_s + life_s)) for key in keys], at)
    return refused


def test_what_is_kept_is_found_until_it_expires(l1: L1[str], clock: Clock) -> None:
    """An entry is there up to its last moment, and not beyond."""
    put(l1, ["a"])
    clock.now_s += 9.999
    assert l1.get_many(["b", "a"]).values == {"a": "a"}
    assert l1.get_many(["b", "a"]).missing == ["b"]
    clock.now_s += 0.001
    assert l1.get_many(["a"]).values == {}
    assert l1.size() == 0


def test_an_entry_that_has_expired_on_its_way_takes_the_older_one_along(l1: L1[str], clock: Clock) -> None:
    """What is put with no life left is not kept, and what it replaces is gone, too."""
    put(l1, ["a"])
    put(l1, ["a"], life_s=0.0)
    assert l1.get_many(["a"]).values == {}


def test_the_oldest_is_evicted(l1: L1[str]) -> None:
    """Full, it drops what has been there for longest, and counts that; a flush is no eviction."""
    put(l1, ["x_a", "x_b", "x_c"])
    put(l1, ["x_a"])
    put(l1, ["y_d"])
    assert l1.get_many(["x_a", "x_b", "x_c", "y_d"]).missing == ["x_b"]
    assert l1.evicted() == {"x": 1}
    l1.flush()
    assert l1.evictions == 1


def test_untrusted_it_serves_the_last_second_only(l1: L1[str], clock: Clock) -> None:
    """Nobody can say what was missed: only what was read within the last second is served, then nothing; trusted
    again, the rest is served again."""
    put(l1, ["old"])
    clock.now_s += 0.6
    put(l1, ["young"])
    l1.trusted_until_s = clock.now_s
    assert l1.get_many(["old", "young"]).missing == []
    clock.now_s += 0.4
    assert l1.get_many(["old", "young"]).missing == ["old"]
    clock.now_s += 0.6
    assert l1.get_many(["old", "young"]).missing == ["old", "young"]
    l1.trusted_until_s = clock.now_s + 1
    assert l1.get_many(["old", "young"]).missing == []


def test_the_last_second_counts_from_before_the_read(l1: L1[str], clock: Clock) -> None:
    """A value that took two seconds to come is two seconds old when it comes."""
    l1.trusted_until_s = float("-inf")
    epoch = l1.epoch()
    clock.now_s += 2.0
    assert put(l1, ["slow"], epoch) == []
    assert l1.get_many(["slow"]).missing == ["slow"]


@pytest.mark.parametrize("how", ["invalidate", "invalidate_matching", "flush"])
def test_what_was_read_before_an_invalidation_is_refused(l1: L1[str], how: str) -> None:
    """A put under a epoch from before is refused, under one from behind it is kept (race R1)."""
    before = l1.epoch()
    dropped = {
        "invalidate": lambda: l1.invalidate(["a"]),
        "invalidate_matching": lambda: l1.invalidate_matching("a*"),
        "flush": l1.flush,
    }[how]()
    assert dropped == 0
    assert l1.invalidated_since("a", before)
    assert put(l1, ["a"], before) == ["a"]
    after = l1.epoch()
    assert not l1.invalidated_since("a", after)
    assert put(l1, ["a"], after) == []


def test_other_keys_are_not_fenced(l1: L1[str]) -> None:
    """An invalidation of one key refuses no other (race R18)."""
    before = l1.epoch()
    l1.invalidate(["a"])
    assert put(l1, ["a", "b"], before) == ["a"]


def test_a_pattern_drops_what_it_matches(l1: L1[str]) -> None:
    """Held keys go by the pattern; what is on its way is refused whatever it is called."""
    put(l1, ["customer_1", "vehicle_1"])
    before = l1.epoch()
    assert l1.invalidate_matching("customer_*") == 1
    assert l1.get_many(["customer_1", "vehicle_1"]).missing == ["customer_1"]
    assert put(l1, ["vehicle_2"], before) == ["vehicle_2"]


def test_suspicion_is_no_invalidation(l1: L1[str]) -> None:
    """What the server changed is named if held, and has to be compared if it is put later under an older epoch."""
    put(l1, ["a"])
    before = l1.epoch()
    assert list(l1.suspect(["a", "b"])) == ["a"]
    entry: Entry[str] = Entry("b", before.at_s, before.at_s + 10)
    assert l1.put_many([("b", entry)], before) == ([], ["b"])
    assert l1.put_many([("b", entry)], l1.epoch()) == ([], [])


def test_only_the_very_entry_is_dropped(l1: L1[str]) -> None:
    """What was compared and found wanting is dropped, and not what has taken its place meanwhile."""
    put(l1, ["a"])
    compared = l1.held(["a"])["a"]
    put(l1, ["a"])
    assert not l1.drop_if_same("a", compared)
    assert l1.drop_if_same("a", l1.held(["a"])["a"])
    assert l1.size() == 0


def test_too_many_epochs_fence_all_keys(l1: L1[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the room for epochs, one floor stands for all keys: more is refused than needed, and never less."""
    monkeypatch.setattr(l1_module, "MAX_EPOCHS", 4)
    before = l1.epoch()
    l1.invalidate(["first"])
    l1.invalidate([f"n{n}" for n in range(10)])
    assert len(l1._invalidated._epochs) <= 4
    assert put(l1, ["first"], before) == ["first"]
    assert put(l1, ["untouched"], before) == ["untouched"]
    assert put(l1, ["first", "untouched"]) == []


def test_many_threads_and_no_order(clock: Clock) -> None:
    """Readers, writers and invalidations on many threads, with entries expiring under them: nothing is raised,
    and nobody gets a value of another key (K7, K12)."""
    l1: L1[str] = L1(maxsize=20)
    l1.trusted_until_s = float("inf")
    keys = [f"k{n}" for n in range(40)]
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for _ in range(1500):
                chosen = dice.sample(keys, 5)
                read = l1.get_many(chosen)
                assert all(key == value for key, value in read.values.items())
                put(l1, read.missing, read.epoch, life_s=dice.choice([0.0001, 1.0]))
                if dice.random() < 0.1:
                    l1.invalidate(chosen[:1])
                if dice.random() < 0.01:
                    l1.flush()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is to be seen
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert l1.size() <= 20
