"""The small parts of the cache, each alone and on a clock moved by hand."""

import copy
import json
import pickle
import threading
from dataclasses import fields
from typing import Any

import pytest

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.codecs import MAX_PAYLOAD_BYTES, Codecs, json_codec
from servease_appt.cache.group_commit import MAX_BATCH, GroupCommit
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.lifetimes import Policies
from servease_appt.cache.policy import CachePolicy
from servease_appt.cache.refresh import RefreshSchedule
from servease_appt.cache.single_flight import Completion, Flights, Outcome
from tests.cache.conftest import Background
from tests.cache.test_l1 import Clock
from tests.cache.testbed import CODECS, LIMIT_S, Versioned


class TestBreaker:
    """Closed, open, half open."""

    def make(self, clock: Clock, threshold: int = 3) -> tuple[Breaker, list[BreakerState]]:
        """A breaker and what it has told of itself."""
        told: list[BreakerState] = []
        return Breaker(threshold=threshold, cool_down_s=2.0, on_change=told.append, clock=clock), told

    def test_failures_in_a_row_open_it(self) -> None:
        """Only an unbroken row counts; it tells once."""
        breaker, told = self.make(Clock())
        for failed in (True, True, False, True, True):
            assert breaker.allows()
            if failed:
                breaker.failed()
            else:
                breaker.succeeded()
        assert told == []
        breaker.failed()
        assert breaker.state is BreakerState.OPEN
        assert not breaker.allows()
        breaker.failed()
        assert told == [BreakerState.OPEN]

    def test_one_caller_tries_after_the_cool_down(self) -> None:
        """Half open, a single caller is let in for each cool-down; its success closes it, its failure does not."""
        clock = Clock()
        breaker, told = self.make(clock, threshold=1)
        breaker.failed()
        clock.now_s += 2.0
        assert breaker.state is BreakerState.HALF_OPEN
        assert [breaker.allows() for _ in range(5)] == [True, False, False, False, False]
        breaker.failed()
        clock.now_s += 1.9
        assert not breaker.allows()
        clock.now_s += 0.1
        assert breaker.allows()
        breaker.succeeded()
        assert breaker.allows()
        assert told == [BreakerState.OPEN, BreakerState.CLOSED]

    def test_a_trial_that_never_reports_costs_one_cool_down(self) -> None:
        """A caller who was let in and died does not keep it open for ever."""
        clock = Clock()
        breaker, _ = self.make(clock, threshold=1)
        breaker.failed()
        clock.now_s += 2.0
        assert breaker.allows()
        clock.now_s += 2.0
        assert breaker.allows()


class TestPolicy:
    """Lifetimes that check themselves."""

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("ttl_s", 0),
            ("load_timeout_s", -1),
            ("soft_timeout_s", 0),
            ("l1_maxsize", 0),
            ("max_loads", 0),
            ("l1_ttl_s", -1),
            ("negative_ttl_s", -0.1),
            ("stale_ttl_s", -1),
            ("jitter", 0.6),
            ("jitter", -0.1),
            ("refresh_at", 0),
            ("refresh_at", 0.95),
        ],
    )
    def test_a_value_that_makes_no_sense_is_named(self, field: str, value: float) -> None:
        """A bad field is refused by its name and value."""
        with pytest.raises(ValueError, match=field) as refused:
            CachePolicy(**{field: value})  # type: ignore[arg-type]
        assert str(value) in str(refused.value)

    def test_zero_turns_off_what_may_be_turned_off(self) -> None:
        """No L1, no remembered absence and no stale copy are choices."""
        CachePolicy(l1_ttl_s=0, negative_ttl_s=0, stale_ttl_s=0, jitter=0)

    def test_no_fill_outlives_the_ttl(self) -> None:
        """Each draw is within the jitter below the TTL, never above it, and at least a millisecond."""
        drawn = [CachePolicy(ttl_s=300, jitter=0.1).draw_ttl_ms() for _ in range(500)]
        assert 270_000 <= min(drawn) < max(drawn) <= 300_000
        assert CachePolicy(ttl_s=0.0001).draw_ttl_ms() == 1

    def test_a_lease_outlives_the_longest_load(self) -> None:
        """Whoever keeps its deadline still has its lease, and a holder is given up before the deadline of who
        waits."""
        policy = CachePolicy(load_timeout_s=2.0)
        assert policy.lease_ms > 2000
        assert policy.patience_s < 2.0

    def test_it_is_frozen(self) -> None:
        """Shared between threads, it never changes."""
        policy = CachePolicy()
        for field in fields(policy):
            with pytest.raises(AttributeError):
                setattr(policy, field.name, 1)


class TestRefreshSchedule:
    """When a value that is being read is loaded anew."""

    policy = CachePolicy(ttl_s=100, l1_ttl_s=10, jitter=0.1, refresh_at=0.75, l1_maxsize=3)

    def test_own_fills_are_due_before_they_can_expire(self) -> None:
        """Between `refresh_at` and the earliest expiry, and once: the next reader's turn comes a while later."""
        for _ in range(50):
            schedule = RefreshSchedule(Policies(self.policy))
            schedule.filled(["a"], 0.0)
            assert schedule.hit(["a"], 74.9) == ([], [])
            assert schedule.hit(["a"], 90.0) == (["a"], [])
            assert schedule.hit(["a"], 90.0) == ([], [])
            assert schedule.hit(["a"], 95.1) == (["a"], [])

    def test_a_strange_key_is_asked_for_at_its_second_reading(self) -> None:
        """What is read once is not worth a question."""
        schedule = RefreshSchedule(Policies(self.policy))
        assert schedule.hit(["a"], 0.0) == ([], [])
        assert schedule.hit(["a"], 1.0) == ([], ["a"])
        schedule.learned("a", 1.0, 60.0)
        assert schedule.hit(["a"], 35.9) == ([], [])
        assert schedule.hit(["a"], 36.1) == (["a"], [])

    def test_anothers_fill_puts_it_off(self) -> None:
        """The server's news of a change starts the clock anew, for keys that are known here only."""
        schedule = RefreshSchedule(Policies(self.policy))
        schedule.filled(["a"], 0.0)
        schedule.changed(["a", "unknown"], 80.0)
        assert schedule.hit(["a"], 100.0) == ([], [])
        assert schedule.hit(["unknown"], 100.0) == ([], [])

    def test_l1_ends_in_time_for_the_refresh(self) -> None:
        """L1 holds a key for its own lifetime, and no longer than to the moment when a refresh is due."""
        schedule = RefreshSchedule(Policies(self.policy))
        assert schedule.l1_until_s(["a"], 5.0, 10.0) == [15.0]
        schedule.learned("a", 0.0, 30.0)
        assert schedule.l1_until_s(["a", "b"], 0.0, 10.0) == [5.0, 10.0]
        assert schedule.l1_until_s(["a"], 6.0, 1.0) == [7.0]

    def test_it_is_bounded(self) -> None:
        """It knows as many keys as L1 has room for."""
        schedule = RefreshSchedule(Policies(self.policy))
        schedule.filled([f"k{n}" for n in range(100)], 0.0)
        assert len(schedule._due_at_s) == 3


class TestFlights:
    """One load a key."""

    def test_the_first_leads_and_the_others_join(self) -> None:
        """Whoever joins is told by the leader's completion, each key for itself."""
        flights: Flights[str] = Flights()
        first, second = Completion(), Completion()
        led, joined = flights.join_or_lead(["a", "b"], first)
        assert (sorted(led), joined) == (["a", "b"], {})
        led_too, joined = flights.join_or_lead(["b", "c"], second)
        assert (sorted(led_too), sorted(joined)) == (["c"], ["b"])
        assert joined["b"] is led["b"]
        led["b"].complete(Outcome.LOADED, "value")
        assert not second.wait(0)
        led_too["c"].complete(Outcome.FAILED)
        assert second.wait(0)
        assert not first.wait(0)

    def test_the_first_completion_counts(self) -> None:
        """A flight completes once; who joins after that does not wait."""
        flights: Flights[str] = Flights()
        led, _ = flights.join_or_lead(["a"], Completion())
        led["a"].complete(Outcome.LOADED, "first")
        led["a"].complete(Outcome.FAILED)
        assert (led["a"].outcome, led["a"].value) == (Outcome.LOADED, "first")
        late = Completion()
        flights.join_or_lead(["a"], late)
        assert late.wait(0)

    @pytest.mark.parametrize("keys", [["a"], None])
    def test_after_an_invalidation_nobody_joins(self, keys: list[str] | None) -> None:
        """A flight that was detached still answers its own callers, and is no longer to be found; its end does not
        take the next flight's place."""
        flights: Flights[str] = Flights()
        old, _ = flights.join_or_lead(["a"], Completion())
        flights.detach(keys)
        new, joined = flights.join_or_lead(["a"], Completion())
        assert joined == {}
        flights.finish([old["a"]])
        assert flights.join_or_lead(["a"], Completion())[1] == new

    def test_alone_means_neither_joining_nor_being_joined(self) -> None:
        """A flight of one caller's own is not offered to others."""
        flights: Flights[str] = Flights()
        shared, _ = flights.join_or_lead(["a"], Completion())
        own, joined = flights.join_or_lead(["a"], Completion(), alone=True)
        assert joined == {}
        assert own["a"] is not shared["a"]
        assert flights.join_or_lead(["a"], Completion())[1] == shared

    def test_waking_ends_one_wait(self, background: Background) -> None:
        """Woken, a waiter looks and finds that nothing has completed."""
        flights: Flights[str] = Flights()
        completion = Completion()
        flights.join_or_lead(["a"], completion)
        waiting = background.submit(completion.wait, LIMIT_S)
        while not waiting.done():
            flights.wake(["a", "unknown"])
        assert waiting.result() is False


class TestGroupCommit:
    """Loads that finish side by side are stored together."""

    def test_what_gathers_is_committed_together(self, background: Background) -> None:
        """While one thread commits, others leave theirs and go; nothing is lost or committed twice."""
        batches: list[list[int]] = []
        gate = background.gate()

        def commit(batch: list[int]) -> None:
            batches.append(batch)
            if len(batches) == 1:
                gate.pass_through()

        commits = GroupCommit(commit)
        commits.add(0)
        first = background.submit(commits.drain)
        gate.wait_for_arrival()
        for item in range(1, MAX_BATCH + 2):
            commits.add(item)
            commits.drain()
        assert batches == [[0]]
        gate.open()
        first.result(LIMIT_S)
        assert [len(batch) for batch in batches] == [1, MAX_BATCH, 1]
        assert sorted(item for batch in batches for item in batch) == list(range(MAX_BATCH + 2))

    def test_many_threads_lose_nothing(self, background: Background) -> None:
        """Every item is committed exactly once, one batch at a time."""
        committed: list[int] = []
        busy = threading.Lock()

        def commit(batch: list[int]) -> None:
            assert busy.acquire(blocking=False), "two commits at once"
            committed.extend(batch)
            busy.release()

        commits = GroupCommit(commit)

        def bring(item: int) -> None:
            commits.add(item)
            commits.drain()

        bringing = [background.submit(bring, item) for item in range(500)]
        for future in bringing:
            future.result(LIMIT_S)
        assert sorted(committed) == list(range(500))


class TestKeys:
    """How things are called in L2."""

    keys = KeySpace("appointment_service")

    def test_the_value_lies_where_the_contract_says(self) -> None:
        """Prefix, colon, key; and back."""
        assert self.keys.data("customer_1") == "appointment_service:customer_1"
        assert self.keys.plain("appointment_service:customer_1") == "customer_1"
        assert self.keys.channel == "appointment_service:invalidate"

    @pytest.mark.parametrize("entity", ["customer", "vehicle", "employee"])
    def test_no_other_key_looks_like_a_value(self, entity: str) -> None:
        """Whoever scans for `prefix:entity_*` finds values alone, and other keys bear the prefix, too."""
        key = f"{entity}_1"
        others = {
            value for name, value in vars(self.keys).items() if name != "prefix" and isinstance(value, str)
        }
        others |= set(self.keys.group(key)) - {self.keys.data(key)}
        assert len(others) >= 5
        for name in others:
            assert name.startswith("appointment_service:")
            assert not name.startswith(f"appointment_service:{entity}_")

    def test_an_entry_lies_in_one_slot(self) -> None:
        """In a cluster all four keys hash alike: the side keys bear the value's whole key as their hash tag."""
        from redis.crc import key_slot

        assert len({key_slot(name.encode()) for name in self.keys.group("customer_1")}) == 1


class TestKinds:
    """Values and their bytes."""

    codecs = Codecs(CODECS)

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b"\xff",
            b'{"id": "1"}',
            b'{"id": "2", "version": 1}',
            b'{"id": "1", "version": "1"}',
            b'{"id": "1", "version": 1, "more": 1}',
            b"[" * 100_000,
            b'{"id": "1", "version": 1}' + b" " * MAX_PAYLOAD_BYTES,
        ],
        ids=range(12),
    )
    def test_bytes_that_are_no_value_are_none(self, payload: bytes) -> None:
        """Whatever lies in L2, it is a value of that id or nothing, and no exception."""
        assert self.codecs.decode("customer_1", payload) is None

    def test_a_value_and_back(self) -> None:
        """What is encoded is decoded, under its own key only."""
        value = Versioned("1", 7)
        payload = self.codecs.of("customer_1").encode(value)
        assert self.codecs.decode("customer_1", payload) == value
        assert self.codecs.decode("customer_2", payload) is None

    @pytest.mark.parametrize("key", ["", "_1", "invoice_1", "appointment_service:customer_1"])
    def test_a_key_of_no_kind_is_refused(self, key: str) -> None:
        """It is named, with what is allowed."""
        with pytest.raises(ValueError, match="customer, vehicle, employee"):
            self.codecs.of(key)
        assert self.codecs.name_of(key) == "-"

    @pytest.mark.parametrize("names", [("a", "a"), ("a_b",), ("",)])
    def test_kinds_need_names_that_can_be_told_apart(self, names: tuple[str, ...]) -> None:
        """Names are distinct and hold no underscore, or keys could not be assigned."""
        with pytest.raises(ValueError, match="distinct"):
            Codecs(tuple(json_codec(name) for name in names))

    def test_a_json_object_is_handed_out_read_only(self) -> None:
        """The ready-made kind's values are shared between threads, so nobody can change them, at any depth."""
        kind = json_codec("customer")
        plain = {"a": 1, "b": [{"c": [1, 2]}]}
        value: Any = kind.decode(kind.encode(plain), "1")
        assert value == plain
        assert json.loads(json.dumps(value)) == plain
        nested: Any = value["b"]
        for change in (
            lambda: value.update(a=2), lambda: value.pop("a"), value.popitem, value.clear,
            lambda: value.setdefault("d", 1), lambda: value.__setitem__("a", 2), lambda: value.__delitem__("a"),
            lambda: value.__ior__({"a": 2}),
            lambda: nested.append(1), lambda: nested.extend([1]), lambda: nested.insert(0, 1), nested.pop,
            lambda: nested.remove({"c": [1, 2]}), nested.clear, nested.sort, nested.reverse,
            lambda: nested.__setitem__(0, 1), lambda: nested.__delitem__(0), lambda: nested.__iadd__([1]),
            lambda: nested.__imul__(2), lambda: nested[0]["c"].append(3),
        ):  # fmt: skip
            with pytest.raises(TypeError, match="shared by its readers"):
                change()
        assert value == plain

    def test_a_copy_of_a_json_object_can_be_changed(self) -> None:
        """By `dict`, and at every depth by `deepcopy` and by pickling."""
        kind = json_codec("customer")
        value: Any = kind.decode(kind.encode({"b": [{"c": 1}]}), "1")
        for copied in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301 - its own
            copied["b"][0]["c"] = 2
            assert copied == {"b": [{"c": 2}]}
        assert value == {"b": [{"c": 1}]}
        assert dict(value) | {"d": 1} == {"b": [{"c": 1}], "d": 1}
