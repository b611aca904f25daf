"""L1 on a clock that stands still until it is moved."""

import inspect
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable

import pytest
from cachetools import LRUCache, TTLCache

from servease_appt.cache import TwoTierCache
from servease_appt.cache import epochs as epochs_module
from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.epochs import Epoch
from servease_appt.cache.l1 import L1, MISS, NOT_FOUND, Entry, _EntryCache
from servease_appt.cache.listener import Listener

LIMIT_S = 10.0


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
    assert l1.held(["a"]) == {}
    assert l1.get_many(["a"]).values == {}
    assert l1.size() == 0


def test_an_expired_entry_is_no_longer_counted(l1: L1[str], clock: Clock) -> None:
    """From the moment on at which it is no longer given, also when nobody has read it."""
    put(l1, ["a"])
    clock.now_s += 10.0
    assert l1.size() == 0


def test_each_key_is_looked_up_for_itself(l1: L1[str], clock: Clock) -> None:
    """Whatever is found for one key, the rest of a page is looked up too, and `missing` can be filled."""
    put(l1, ["expired"], life_s=1.0)
    l1.put_many([("none", Entry(NOT_FOUND, clock.now_s, clock.now_s + 10))], l1.epoch())
    put(l1, ["a"])
    clock.now_s += 1.0
    read = l1.get_many(["absent", "expired", "none", "a"])
    assert (read.values, read.not_found) == ({"none": None, "a": "a"}, ["none"])
    assert read.missing == ["absent", "expired"]
    assert read.epoch == l1.epoch()


def test_an_entry_that_has_expired_on_its_way_takes_the_older_one_along(l1: L1[str], clock: Clock) -> None:
    """What is put with no life left is not kept, and what it replaces is gone, too."""
    put(l1, ["a"])
    put(l1, ["a"], life_s=0.0)
    assert l1.get_many(["a"]).values == {}


@pytest.mark.parametrize("use", ["get", "get_many", "put"])
def test_the_least_recently_used_is_evicted(l1: L1[str], use: str) -> None:
    """Full, it drops what nobody has read or put for longest, and counts that; a flush is no eviction."""
    put(l1, ["x_a", "x_b", "x_c"])
    match use:
        case "get":
            l1.get("x_a")
        case "get_many":
            l1.get_many(["x_a"])
        case _:
            put(l1, ["x_a"])
    put(l1, ["y_d"])
    assert sorted(l1.keys()) == ["x_a", "x_c", "y_d"]
    assert l1.evicted() == {"x": 1}
    l1.flush()
    assert l1.evictions == 1


def test_looking_is_no_use(l1: L1[str]) -> None:
    """What an operator or the listener looks at is not kept for that."""
    put(l1, ["x_a", "x_b", "x_c"])
    l1.held(["x_a"])
    l1.suspect(["x_a"])
    put(l1, ["y_d"])
    assert sorted(l1.keys()) == ["x_b", "x_c", "y_d"]


def test_what_eight_threads_use_stays(clock: Clock) -> None:
    """Each thread reads keys of its own between puts of others: none of what is read all the time is evicted."""
    l1: L1[str] = L1(maxsize=100, clock=clock)
    l1.trusted_until_s = float("inf")
    used = [[f"used_{thread}{n}" for n in range(5)] for thread in range(8)]
    put(l1, [key for keys in used for key in keys])
    lost: list[str] = []
    turn = threading.Barrier(8)

    def work(thread: int) -> None:
        for round_ in range(100):
            turn.wait(LIMIT_S)
            lost.extend(key for key in used[thread][:2] if l1.get(key) is MISS)
            lost.extend(l1.get_many(used[thread][2:]).missing)
            turn.wait(LIMIT_S)
            put(l1, [f"other_{thread}{round_}{n}" for n in range(5)])

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert l1.evicted() == {"other": 8 * 100 * 5 + 40 - 100}


@pytest.mark.parametrize("seed", range(3))
def test_it_hits_as_often_as_cachetools_ttl_cache(clock: Clock, seed: int) -> None:
    """The same trace by Zipf's law, the same size and lifetime: at least the same hit rate."""
    dice = random.Random(seed)
    weights = [1 / rank for rank in range(1, 5001)]
    trace = dice.choices([f"k_{n}" for n in range(5000)], weights, k=30_000)
    l1: L1[str] = L1(maxsize=300, clock=clock)
    l1.trusted_until_s = float("inf")
    rival: TTLCache[str, str] = TTLCache(300, 10.0, timer=clock)
    hits = rival_hits = 0
    for key in trace:
        clock.now_s += 0.001
        if l1.get(key) is MISS:
            put(l1, [key])
        else:
            hits += 1
        if key in rival:
            rival_hits += rival[key] == key
        else:
            rival[key] = key
    assert hits >= rival_hits > 10_000


def test_one_value_is_given_as_many_are(l1: L1[str], clock: Clock) -> None:
    """`get` gives what `get_many` gives, and leaves what is not found, expired or not trusted to it."""
    put(l1, ["x_a"])
    l1.put_many([("x_b", Entry(NOT_FOUND, clock.now_s, clock.now_s + 10))], l1.epoch())
    assert l1.get("x_a") == "x_a"
    assert l1.get("x_b") is MISS
    assert l1.get_many(["x_b"]).not_found == ["x_b"]
    clock.now_s += 2.0
    l1.trusted_until_s = clock.now_s
    assert l1.get("x_a") is MISS
    l1.trusted_until_s = float("inf")
    clock.now_s += 8.0
    assert l1.get("x_a") is MISS


def test_its_hits_are_counted_once(l1: L1[str]) -> None:
    """By entity; what has been taken is not taken again, and misses are no hits."""
    put(l1, ["x_a", "y_a"])
    for key in ("x_a", "x_a", "y_a", "y_b"):
        l1.get(key)
    assert sorted(l1.take_hits()) == [("x", 2), ("y", 1)]
    assert l1.take_hits() == []
    l1.get("x_a")
    assert l1.take_hits() == [("x", 1)]


def test_the_entity_is_what_stands_before_the_first_underscore(l1: L1[str]) -> None:
    """An id may have underscores of its own."""
    put(l1, ["customer_a_b", "customer_c"])
    assert l1.sizes() == {"customer": 2}


def test_sizes_are_counted_as_entries_come_and_go(clock: Clock) -> None:
    """Whatever happened, the counters say what a scan would find."""
    l1: L1[str] = L1(maxsize=15, clock=clock)
    l1.trusted_until_s = float("inf")
    dice = random.Random(1)
    for _ in range(3000):
        key = f"{dice.choice('xyz')}_{dice.randrange(10)}"
        match dice.randrange(8):
            case 0:
                l1.invalidate([key])
            case 1:
                clock.now_s += dice.random()
            case 2:
                held = l1.held([key])
                if held:
                    l1.drop_if_same(key, held[key])
            case 3 if dice.random() < 0.1:
                l1.invalidate_matching("x_*")
            case 4 if dice.random() < 0.05:
                l1.flush()
            case _:
                put(l1, [key], life_s=dice.choice([0.5, 3.0]))
        counted, size = l1.sizes(), l1.size()
        keys = l1.keys()
        assert counted == Counter(key.partition("_")[0] for key in keys)
        assert size == len(keys) <= 15


def test_nobody_waits_for_a_great_many_to_expire(clock: Clock) -> None:
    """Expired entries go a slice at a time, under whichever call comes by; no size is found by a scan."""
    l1: L1[str] = L1(maxsize=5000, clock=clock)
    put(l1, [f"x_{n}" for n in range(5000)])
    clock.now_s += 11
    sizes = [l1.size() for _ in range(6)]
    assert sizes == [4000, 3000, 2000, 1000, 0, 0]


def test_a_touch_is_what_cachetools_does(clock: Clock) -> None:
    """The private names of cachetools that a hit goes past its methods by mean what they meant."""
    by_method, by_touch = (_EntryCache[str](3) for _ in range(2))
    for cache in (by_method, by_touch):
        for key in ("a", "b", "c"):
            cache[key] = Entry(key, clock.now_s, clock.now_s + 10)
    assert by_touch.entries["a"] is LRUCache.__getitem__(by_touch, "a")
    by_touch.touch("b")
    assert LRUCache.__getitem__(by_method, "a").value == "a"
    assert LRUCache.__getitem__(by_method, "b").value == "b"
    assert (
        [by_touch.popitem()[0] for _ in range(3)]
        == [by_method.popitem()[0] for _ in range(3)]
        == ["c", "a", "b"]
    )
    assert by_touch.entries == {}


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
    assert (l1.get("old"), l1.get("young")) == (MISS, "young")
    l1.trusted_until_s = clock.now_s
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
    assert l1.get_many(["a", "b"]).values == {"b": "b"}


def test_an_invalidation_says_how_many_were_held(l1: L1[str]) -> None:
    """Of all keys that it was given."""
    put(l1, ["a", "b"])
    assert l1.invalidate(["a", "unknown", "b"]) == 2
    assert l1.invalidate(["b"]) == 0


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
    monkeypatch.setattr(epochs_module, "MAX_EPOCHS", 4)
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


class TestBytes:
    """L1 is bounded by the bytes of its values as well as by their number."""

    @staticmethod
    def put(l1: L1[str], key: str, size: int) -> None:
        """Put a value of a size."""
        epoch = l1.epoch()
        l1.put_many([(key, Entry(key, epoch.at_s, epoch.at_s + 10, size))], epoch)

    def test_the_least_recently_used_go_when_the_bytes_are_too_many(self) -> None:
        """As many of them as it takes."""
        l1: L1[str] = L1(maxsize=100, max_bytes=100)
        for key in "abc":
            self.put(l1, f"x_{key}", 30)
        assert l1.get("x_a") == "x_a"

        self.put(l1, "x_d", 70)

        assert sorted(l1.keys()) == ["x_a", "x_d"]
        assert l1.bytes() == 100
        assert l1.evictions == 2

    def test_bytes_are_given_back(self) -> None:
        """By a deletion, a replacement, an expiry and a flush."""
        clock = Clock()
        l1: L1[str] = L1(maxsize=100, max_bytes=100, clock=clock)
        self.put(l1, "x_a", 30)
        self.put(l1, "x_a", 40)
        self.put(l1, "x_b", 20)
        assert l1.bytes() == 60
        l1.invalidate(["x_a"])
        assert l1.bytes() == 20
        clock.now_s += 20
        self.put(l1, "x_c", 50)
        assert l1.bytes() == 50
        l1.flush()
        assert l1.bytes() == 0

    def test_a_large_value_stays_out_and_takes_the_place_of_none(self) -> None:
        """Nor does an older one stay in its place."""
        l1: L1[str] = L1(maxsize=100, max_bytes=100, max_value_bytes=50)
        for key in ("x_a", "x_b"):
            self.put(l1, key, 40)

        self.put(l1, "x_a", 51)
        self.put(l1, "x_new", 51)

        assert l1.keys() == ["x_b"]
        self.put(l1, "x_c", 50)
        assert l1.keys() == ["x_b", "x_c"]
        put(l1, ["x_without_a_size"])
        assert l1.bytes() == 90


def test_ages_are_told_by_a_clock_that_runs_while_the_host_sleeps() -> None:
    """A laptop that was closed for an hour trusts nothing from before: `monotonic` stood still."""
    for owner in (TwoTierCache, L1, Listener):
        assert inspect.signature(owner).parameters["clock"].default is elapsed_s
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("the system has no such clock")
    before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before_s <= elapsed_s() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert elapsed_s.args == (time.CLOCK_BOOTTIME,)  # type: ignore[attr-defined]
