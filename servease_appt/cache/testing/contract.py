"""What every L2 must do, as tests for pytest. An implementation of `L2` inherits them.

class TestMyL2(L2Contract):
    @pytest.fixture
    def l2(self) -> L2:
        return MyL2(...)  # empty
"""

from __future__ import annotations

import time
from collections.abc import Callable

from servease_appt.cache.errors import L2RefusedWrite
from servease_appt.cache.l2.protocol import L2, Fill, Lease, LeaseState, Write, WriteMode, Written

KEY, OTHER = "customer_1", "customer_2"
LEASE_MS = 60_000
TTL_MS = 60_000
SHORT_MS = 20
LIMIT_S = 10.0
ABSENCE = None


class L2Contract:
    """Tests of one implementation. A subclass defines the fixture `l2`, which is empty at the start of each."""

    def pass_time(self, seconds: float) -> None:
        """Let time pass for L2. With a clock that a test moves, override this by moving it."""
        time.sleep(seconds)

    # Leases and fills

    def test_what_is_not_stored_is_missing(self, l2: L2) -> None:
        """Read returns None for it, in the order of the keys."""
        store(l2, OTHER, b"two")

        payloads, _ = l2.read([KEY, OTHER])
        assert payloads == [None, b"two"]

    def test_a_lease_is_granted_to_one(self, l2: L2) -> None:
        """The second is told who holds it."""
        first, second = acquire(l2, "a"), acquire(l2, "b")

        assert first.state is LeaseState.GRANTED
        assert second == Lease(LeaseState.HELD, first.payload, None)

    def test_a_fill_stores_the_value_and_ends_the_lease(self, l2: L2) -> None:
        """Whoever asks for the lease then gets the value, and no second fill is accepted."""
        lease = acquire(l2, "a")

        assert l2.fill([fill(lease, b"one")]) == [True]
        assert acquire(l2, "b") == Lease(LeaseState.VALUE, b"one")
        assert l2.fill([fill(lease, b"again")]) == [False]
        assert value(l2) == b"one"

    def test_an_invalidation_voids_the_lease(self, l2: L2) -> None:
        """A load that began before it can't store what it brings; one that began after it can."""
        before = acquire(l2, "a")
        l2.invalidate([KEY], "w")
        after = acquire(l2, "b")

        assert after.state is LeaseState.GRANTED
        assert l2.fill([fill(before, b"old")]) == [False]
        assert l2.fill([fill(after, b"new")]) == [True]
        assert value(l2) == b"new"

    def test_an_invalidation_by_pattern_voids_the_lease(self, l2: L2) -> None:
        """Of the keys that match, and of no others."""
        matching, other = acquire(l2, "a"), acquire(l2, "a", OTHER)
        l2.invalidate_matching("*_1", "w")

        assert l2.fill([fill(matching, b"old"), fill(other, b"two", OTHER)]) == [False, True]

    def test_a_write_voids_the_lease(self, l2: L2) -> None:
        """A load that runs meanwhile does not replace it."""
        lease = acquire(l2, "a")
        l2.write([Write(KEY, b"written", TTL_MS)], "w")

        assert l2.fill([fill(lease, b"old")]) == [False]
        assert value(l2) == b"written"

    def test_a_released_lease_is_granted_anew(self, l2: L2) -> None:
        """And what its first holder brings is refused."""
        first = acquire(l2, "a")
        l2.release([(KEY, first.payload)])

        assert acquire(l2, "b").state is LeaseState.GRANTED
        assert l2.fill([fill(first, b"late")]) == [False]

    def test_a_lease_is_not_released_by_others(self, l2: L2) -> None:
        """A release with another lease changes nothing."""
        lease = acquire(l2, "a")
        l2.release([(KEY, b"another")])

        assert l2.fill([fill(lease, b"one")]) == [True]

    def test_a_takeover_keeps_the_fence(self, l2: L2) -> None:
        """Both loads began after the last invalidation, so the first that ends is stored. It works once."""
        first = acquire(l2, "a")
        (second,) = l2.acquire([KEY], "b", LEASE_MS, take_over={KEY: first.payload})
        assert second.state is LeaseState.GRANTED
        (third,) = l2.acquire([KEY], "c", LEASE_MS, take_over={KEY: second.payload})

        assert third.state is LeaseState.HELD
        assert l2.fill([fill(first, b"one")]) == [True]
        assert l2.fill([fill(second, b"two")]) == [False]

    def test_a_refresh_is_granted_although_there_is_a_value(self, l2: L2) -> None:
        """An invalidation voids it like any other."""
        store(l2, KEY, b"one")
        (lease,) = l2.acquire([KEY], "a", LEASE_MS, refresh=True)
        assert lease.state is LeaseState.GRANTED
        assert value(l2) == b"one"
        l2.invalidate([KEY], "w")

        assert l2.fill([fill(lease, b"old")]) == [False]

    def test_an_absence_is_stored_in_place_of_a_value(self, l2: L2) -> None:
        """With a TTL of 0 it is not stored."""
        assert l2.fill([fill(acquire(l2, "a"), ABSENCE)]) == [True]
        assert acquire(l2, "b").state is LeaseState.ABSENT
        assert l2.fill([fill(acquire(l2, "a", OTHER), ABSENCE, OTHER, ttl_ms=0)]) == [True]
        assert acquire(l2, "b", OTHER).state is LeaseState.GRANTED
        l2.invalidate([KEY], "w")
        assert acquire(l2, "c").state is LeaseState.GRANTED

    def test_values_and_leases_expire(self, l2: L2) -> None:
        """A stale copy outlives its value, and an invalidation drops it."""
        l2.fill([Fill(KEY, acquire(l2, "a").payload, b"one", SHORT_MS, TTL_MS)])
        l2.acquire([OTHER], "a", SHORT_MS)

        self.wait_until(lambda: value(l2) is None)
        assert acquire(l2, "b").stale == b"one"
        self.wait_until(lambda: acquire(l2, "b", OTHER).state is LeaseState.GRANTED)
        l2.invalidate([KEY], "w")
        assert acquire(l2, "c").stale is None

    # Writes

    def test_a_write_says_if_it_changed_anything(self, l2: L2) -> None:
        """The same bytes again only renew the TTL; a TTL cut below what L1s may hold is a change."""
        assert l2.write([Write(KEY, b"one", TTL_MS)], "w") == [Written.CHANGED]
        assert l2.write([Write(KEY, b"one", 2 * TTL_MS)], "w") == [Written.WAS_THERE]
        assert l2.ttl_ms([KEY])[0] > TTL_MS
        assert l2.write([Write(KEY, b"one", 0)], "w") == [Written.WAS_THERE]
        assert l2.ttl_ms([KEY])[0] < 0
        assert l2.write([Write(KEY, b"one", 5000)], "w", l1_ms=10_000) == [Written.CHANGED]

    def test_conditions_of_a_write(self, l2: L2) -> None:
        """Only if there is none; only if it is the same."""
        writes = [Write(KEY, b"one", TTL_MS)]
        assert l2.write(writes, "w", mode=WriteMode.IF_SAME) == [Written.REFUSED]
        assert l2.write(writes, "w", mode=WriteMode.IF_ABSENT) == [Written.CHANGED]
        assert l2.write([Write(KEY, b"two", TTL_MS)], "w", mode=WriteMode.IF_ABSENT) == [Written.REFUSED]
        assert l2.write(writes, "w", mode=WriteMode.IF_SAME) == [Written.WAS_THERE]
        assert value(l2) == b"one"

    def test_numbers(self, l2: L2) -> None:
        """A missing one counts as 0; the TTL stays; what is no number is refused and stays."""
        assert l2.increment(KEY, 5, "w") == b"5"
        assert l2.increment(KEY, -7, "w") == b"-2"
        l2.write([Write(KEY, b"9", TTL_MS)], "w")
        assert l2.increment(KEY, 1, "w") == b"10"
        assert 0 < l2.ttl_ms([KEY])[0] <= TTL_MS
        for stored in (b"text", str(2**63 - 1).encode()):
            l2.write([Write(KEY, stored, TTL_MS)], "w")
            try:
                l2.increment(KEY, 1, "w")
            except L2RefusedWrite:
                assert value(l2) == stored
            else:
                raise AssertionError(f"{stored!r} was incremented")

    # Invalidations

    def test_each_invalidation_and_change_has_the_next_number(self, l2: L2) -> None:
        """By which a listener notices that it has missed one. Readers see the last one."""
        first, listeners = l2.invalidate([KEY], "w")
        assert listeners in (0, None), "nobody listens"
        assert l2.invalidate([OTHER], "w").sequence == first + 1
        assert l2.invalidate_matching("customer_*", "w") == first + 2
        l2.write([Write(KEY, b"one", TTL_MS)], "w")
        l2.write([Write(KEY, b"one", TTL_MS)], "w")
        l2.increment(OTHER, 1, "w")
        assert l2.read([KEY])[1] == first + 4

    def test_a_pattern_deletes_what_matches(self, l2: L2) -> None:
        """And nothing else; `scan` finds values alone."""
        for key in (KEY, OTHER, "vehicle_1"):
            store(l2, key, b"value")
        acquire(l2, "a", "customer_3")
        assert sorted(l2.scan("customer_*")) == [KEY, OTHER]
        assert sorted(l2.scan("*")) == [KEY, OTHER, "vehicle_1"]

        l2.invalidate_matching("customer_*", "w")
        assert list(l2.scan("*")) == ["vehicle_1"]

    # The rest

    def test_bytes_are_discarded_unless_they_were_replaced(self, l2: L2) -> None:
        """What one reader could not decode may have been written anew."""
        store(l2, KEY, b"new")
        store(l2, OTHER, b"bad")
        l2.discard([(KEY, b"bad"), (OTHER, b"bad")])

        assert l2.read([KEY, OTHER])[0] == [b"new", None]

    def test_remaining_lifetimes(self, l2: L2) -> None:
        """With the values in one step, and alone."""
        l2.write([Write(KEY, b"one", TTL_MS), Write(OTHER, b"two", 0)], "w")
        payloads, lives_ms, sequence = l2.read_timed([KEY, OTHER, "vehicle_1"])

        assert payloads == [b"one", b"two", None]
        assert 0 < lives_ms[0] <= TTL_MS
        assert lives_ms[1] == -1
        assert sequence == l2.read([KEY])[1]
        assert [left_ms < 0 for left_ms in l2.ttl_ms([KEY, OTHER, "vehicle_1"])] == [False, True, True]

    def test_any_bytes_are_values(self, l2: L2) -> None:
        """Also none, and such as are no text."""
        for payload in (b"", b"\x00\xff\n", b"x" * 100_000):
            store(l2, KEY, payload)
            assert value(l2) == payload

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Let time pass until something is so."""
        deadline_s = time.monotonic() + LIMIT_S
        while not done():
            assert time.monotonic() < deadline_s, "nothing expired"
            self.pass_time(SHORT_MS / 1000)


def acquire(l2: L2, token: str, key: str = KEY) -> Lease:
    """Request the lease of one key."""
    (lease,) = l2.acquire([key], token, LEASE_MS)
    return lease


def fill(lease: Lease, payload: bytes | None, key: str = KEY, ttl_ms: int = TTL_MS) -> Fill:
    """A fill under a lease, without a stale copy."""
    return Fill(key, lease.payload, payload, ttl_ms, 0)


def store(l2: L2, key: str, payload: bytes) -> None:
    """Store a value."""
    l2.write([Write(key, payload, TTL_MS)], "store")


def value(l2: L2, key: str = KEY) -> bytes | None:
    """The stored value of one key."""
    return l2.read([key])[0][0]
