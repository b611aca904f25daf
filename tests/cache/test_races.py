"""The races that a two-tier cache can lose, each forced by gates, and each lost once without its protection.

Notation: W invalidates, A and B are other workers, S is the source. `v1` is the value before the change and `v2`
the one after it. Every test runs twice: as the code is, and with the named protection taken out.
"""

from typing import Any

import pytest
import redis

from servease_appt.cache.l2.protocol import Announced, LeaseState
from servease_appt.cache.stats import Event, Tier
from tests.cache import mutants
from tests.cache.conftest import Background, MakeCache
from tests.cache.mutants import Mutation
from tests.cache.testbed import (
    LIMIT_S,
    PREFIX,
    Source,
    Versioned,
    eventually,
    held_in_l1,
    monkeypatch,
    policy,
    settle,
    stop_after,
    stop_before,
)

K = "customer_1"
DATA = f"{PREFIX}:{K}"
V1, V2 = Versioned("1", 1), Versioned("1", 2)


def guarded_or(*mutations: Mutation) -> pytest.MarkDecorator:
    """Run the test with the code as it is, and once with each protection taken out."""
    names = ["as it is", *(mutation.__name__ for mutation in mutations)]
    return pytest.mark.parametrize("mutate", [mutants.no_mutation, *mutations], ids=names)


def in_l2(client: redis.Redis, key: str = K) -> bytes | None:
    """The bytes that L2 holds."""
    value: Any = client.get(f"{PREFIX}:{key}")
    return value if value is None else bytes(value)


def as_is(mutate: Mutation) -> bool:
    """Whether nothing was taken out."""
    return mutate is mutants.no_mutation


@guarded_or(mutants.without_l1_fence)
def test_r1_an_l1_put_after_an_invalidation(
    mutate: Mutation, make_cache: MakeCache, source: Source, background: Background
) -> None:
    """R1. B: MGET→v1; W: S:=v2, invalidate; B hears it (nothing to drop); B: L1:=v1. B must not keep v1."""
    w, b = make_cache(), make_cache()
    mutate(b)
    source.put(K)
    assert w.get(K, source.load) == V1
    settle(b)
    gate = background.gate()
    stop_after(b.l2, "read", gate)
    reading = background.submit(b.get, K, source.load)
    gate.wait_for_arrival()
    source.put(K)
    w.invalidate([K])
    settle(b)
    gate.open()
    assert reading.result(LIMIT_S) == V1, "what was read before the invalidation may still be answered"
    assert (b.get(K, source.load) == V2) is as_is(mutate)


@guarded_or(mutants.without_lease_check)
def test_r2_a_fill_after_an_invalidation(
    mutate: Mutation, make_cache: MakeCache, source: Source, client: redis.Redis, background: Background
) -> None:
    """R2. A: miss, load→v1; W: S:=v2, invalidate (nothing there); A: fill v1. Neither tier may keep v1."""
    w, a = make_cache(), make_cache()
    mutate(a)
    source.put(K)
    held = source.hold(K)
    loading = background.submit(a.get, K, source.load)
    held.wait_for_arrival()
    source.put(K)
    w.invalidate([K])
    source.release(K)
    held.open()
    assert loading.result(LIMIT_S) == V1
    assert (in_l2(client) is None) is as_is(mutate)
    if as_is(mutate):
        assert held_in_l1(a, K) is None
        assert a.recorder.get(Tier.L2, Event.REFUSED_FILL) == 1  # type: ignore[attr-defined]
        assert a.get(K, source.load) == V2
        assert w.get(K, source.load) == V2


@guarded_or(mutants.own_l1_first)
def test_r3_own_l1_refilled_between_the_two_deletes(
    mutate: Mutation, make_cache: MakeCache, source: Source, background: Background
) -> None:
    """R3. W drops one tier; another thread of W reads; W drops the other tier. With L1 first, that thread refills
    it from an L2 that still has v1, and W itself serves v1 after its own invalidation."""
    w = make_cache()
    source.put(K)
    assert w.get(K, source.load) == V1
    settle(w)
    gate = background.gate()
    # The place between the two deletes is behind the first of them, whichever that is.
    if as_is(mutate):
        stop_after(w.l2, "invalidate", gate)
    else:
        stop_before(w.l2, "invalidate", gate)
        mutate(w)
    source.put(K)
    invalidating = background.submit(w.invalidate, [K])
    gate.wait_for_arrival()
    w.get(K, source.load)
    gate.open()
    assert invalidating.result(LIMIT_S) == 1
    assert (w.get(K, source.load) == V2) is as_is(mutate)


@pytest.mark.parametrize("apart", [False, True], ids=["as it is", "publishing before deleting"])
def test_r4_a_message_before_the_delete_is_visible(
    apart: bool, make_cache: MakeCache, source: Source, client: redis.Redis
) -> None:
    """R4. W: PUBLISH; B drops L1, reads v1 from L2, keeps it; W: DEL. In one script there is no such moment:
    whoever hears the message finds L2 empty."""
    w, b = make_cache(), make_cache()
    seen: list[bytes | None] = []
    heard = b._process.handler.on_message

    def look(invalidation: Any) -> None:
        seen.append(in_l2(client))
        heard(invalidation)

    monkeypatch(b._process.handler, "on_message", look)
    source.put(K)
    assert w.get(K, source.load) == V1
    if apart:
        in_one = w.l2.invalidate

        def publish_first(keys: list[str], identity: str) -> Announced:
            client.publish(f"{PREFIX}:invalidate", '{"v":1,"seq":0,"keys":["customer_1"]}')
            eventually(lambda: seen, "the message")
            return in_one(keys, identity)

        monkeypatch(w.l2, "invalidate", publish_first)
    w.invalidate([K])
    settle(b)
    assert (seen[0] is None) is not apart


@guarded_or(mutants.without_lease_check)
def test_r8_a_refresh_over_an_invalidation(
    mutate: Mutation, make_cache: MakeCache, source: Source, background: Background, client: redis.Redis
) -> None:
    """R8. A refreshes a value that is due, load→v1; W: S:=v2, invalidate; A's refresh is over. It must store
    nothing, although its value is 'newer' by any clock."""
    w, a = make_cache(), make_cache()
    mutate(a)
    source.put(K)
    assert a.get(K, source.load) == V1
    settle(a)
    held = source.hold(K)
    a.l1.flush()
    a._process.schedule._due_at_s[K] = a._clock()
    assert a.get(K, source.load) == V1, "the reader that starts a refresh does not wait for it"
    held.wait_for_arrival()
    source.put(K)
    w.invalidate([K])
    done = background.gate()
    done.open()
    stop_after(a._process.loader._commits, "_commit", done)
    source.release(K)
    held.open()
    done.wait_for_arrival()
    assert (in_l2(client) is None) is as_is(mutate)


@guarded_or(mutants.without_lease_check)
def test_r8_a_load_that_its_reader_did_not_wait_for(
    mutate: Mutation, make_cache: MakeCache, source: Source, background: Background, client: redis.Redis
) -> None:
    """R8 by way of the soft deadline: A answers with the stale copy while its load goes on; W invalidates;
    the load completes. It must store nothing."""
    w, a = make_cache(), make_cache(policy=policy(soft_timeout_s=0.05))
    mutate(a)
    source.put(K)
    assert a.get(K, source.load) == V1
    client.delete(DATA)
    eventually(lambda: held_in_l1(a, K) is None, "the drop of what was deleted by hand")
    held = source.hold(K)
    assert a.get(K, source.load) == V1, "the copy stands in for a load that is too slow"
    source.put(K)
    w.invalidate([K])
    done = background.gate()
    done.open()
    stop_after(a._process.loader._commits, "_commit", done)
    source.release(K)
    held.open()
    done.wait_for_arrival()
    assert (in_l2(client) is None) is as_is(mutate)


@guarded_or(mutants.without_verified_puts)
def test_r9_own_echo_and_anothers_change_in_one_push(
    mutate: Mutation, make_cache: MakeCache, source: Source, client: redis.Redis, background: Background
) -> None:
    """R9. A stores v1 in L2; an operator sets v2; A hears of both changes, which may come as one; A puts v1 into
    L1. A must not take the news for its own echo."""
    a = make_cache()
    mutate(a)
    source.put(K)
    gate = background.gate()
    stop_before(a._process.loader, "_keep_in_l1", gate)
    reading = background.submit(a.get, K, source.load)
    gate.wait_for_arrival()
    client.set(DATA, b'{"id": "1", "version": 2}', px=60_000)
    settle(a)
    gate.open()
    assert reading.result(LIMIT_S) == V1
    settle(a)
    settle(a)
    assert (held_in_l1(a, K) is None) is as_is(mutate)
    assert (a.get(K, source.load) == V2) is as_is(mutate)


@guarded_or(mutants.without_lease_check)
def test_r14_an_invalidation_by_pattern_needs_no_clock(
    mutate: Mutation,
    make_cache: MakeCache,
    source: Source,
    client: redis.Redis,
    background: Background,
) -> None:
    """R14. A: load→v1; W: S:=v2, invalidate `customer_*`; A: fill v1. No clock is compared: the lease is gone."""
    w, a = make_cache(), make_cache()
    mutate(a)
    source.put(K)
    held = source.hold(K)
    loading = background.submit(a.get, K, source.load)
    held.wait_for_arrival()
    source.put(K)
    w.invalidate_matching("customer_*")
    source.release(K)
    held.open()
    assert loading.result(LIMIT_S) == V1
    assert (in_l2(client) is None) is as_is(mutate)


@guarded_or(mutants.values_before_leases)
def test_r14_a_fill_between_the_scans_of_a_pattern(
    mutate: Mutation, make_cache: MakeCache, source: Source, client: redis.Redis, background: Background
) -> None:
    """R14. W's first scan is over; A, which loaded v1 before it, fills; W's second scan. Leases go first, so that
    A is refused; values first, and A's v1 would be stored behind the scan that was to delete it."""
    w, a = make_cache(), make_cache()
    source.put(K)
    held = source.hold(K)
    loading = background.submit(a.get, K, source.load)
    held.wait_for_arrival()
    source.put(K)
    gate = background.gate()
    stop_after(w.l2, "_delete_matching", gate)
    mutate(w)
    invalidating = background.submit(w.invalidate_matching, "customer_*")
    gate.wait_for_arrival()
    source.release(K)
    held.open()
    assert loading.result(LIMIT_S) == V1
    gate.open()
    invalidating.result(LIMIT_S)
    assert (in_l2(client) is None) is as_is(mutate)


@guarded_or(mutants.without_lease_check)
def test_r15_a_remembered_absence_over_a_create(
    mutate: Mutation, make_cache: MakeCache, source: Source, background: Background
) -> None:
    """R15. A: load→404; W: S:=v1, invalidate; A remembers the 404. It must not: the next reader sees v1."""
    w, a = make_cache(), make_cache()
    mutate(a)
    held = source.hold(K)
    loading = background.submit(a.get, K, source.load)
    held.wait_for_arrival()
    source.put(K)
    w.invalidate([K])
    source.release(K)
    held.open()
    assert loading.result(LIMIT_S) is None
    assert (w.get(K, source.load) == V1) is as_is(mutate)


@guarded_or(mutants.keeping_stale_copies)
def test_r16_no_copy_outlives_a_hard_invalidation(
    mutate: Mutation, make_cache: MakeCache, source: Source
) -> None:
    """R16. v1 is cached; W: S:=v2, invalidate; S fails. Readers get nothing rather than v1."""
    w, a = make_cache(), make_cache()
    mutate(w)
    source.put(K)
    assert a.get(K, source.load) == V1
    source.put(K)
    w.invalidate([K])
    settle(a)
    source.fail(K, OSError("down"))
    assert (a.get(K, source.load) is None) is as_is(mutate)


@guarded_or(mutants.without_stale_fence)
def test_r16_a_copy_fetched_before_the_invalidation(
    mutate: Mutation,
    make_cache: MakeCache,
    source: Source,
    client: redis.Redis,
    background: Background,
) -> None:
    """R16. A: lease and copy v1; W: S:=v2, invalidate; A's load fails. The copy that A holds must not stand in."""
    w, a = make_cache(), make_cache(policy=policy(soft_timeout_s=1.9))
    mutate(a)
    source.put(K)
    assert a.get(K, source.load) == V1
    client.delete(DATA)
    eventually(lambda: held_in_l1(a, K) is None, "the drop of what was deleted by hand")
    source.fail(K, OSError("down"))
    held = source.hold(K)
    loading = background.submit(a.get, K, source.load)
    held.wait_for_arrival()
    source.put(K)
    w.invalidate([K])
    settle(a)
    held.open()
    assert (loading.result(LIMIT_S) is None) is as_is(mutate)


def test_r16_a_reader_that_joins_a_load_with_a_copy(
    make_cache: MakeCache, source: Source, client: redis.Redis, background: Background
) -> None:
    """R16. A leads with the copy v1; a second reader of A joins; W: S:=v2, invalidate; the load fails. The second
    reader's fence counts from before it joined, so v1 does not stand in for it either.

    Seen to fail with the fence's epoch taken behind the join.
    """
    w, a = make_cache(), make_cache(policy=policy(soft_timeout_s=1.9))
    source.put(K)
    assert a.get(K, source.load) == V1
    client.delete(DATA)
    eventually(lambda: held_in_l1(a, K) is None, "the drop of what was deleted by hand")
    source.fail(K, OSError("down"))
    held = source.hold(K)
    leading = background.submit(a.get, K, source.load)
    held.wait_for_arrival()
    gate = background.gate()
    stop_after(a._process.flights, "join_or_lead", gate)
    joining = background.submit(a.get, K, source.load)
    gate.wait_for_arrival()
    source.put(K)
    w.invalidate([K])
    settle(a)
    gate.open()
    held.open()
    assert leading.result(LIMIT_S) is None
    assert joining.result(LIMIT_S) is None


@guarded_or(mutants.without_lease_check, mutants.with_any_lease)
def test_r17_a_holder_that_overruns_its_lease(
    mutate: Mutation,
    make_cache: MakeCache,
    source: Source,
    client: redis.Redis,
    background: Background,
) -> None:
    """R17. A: lease, load→v1, stalls; the lease runs out; S:=v2 and another worker has the next lease; A: fill v1.
    A's token is not the one that stands, so it is refused."""
    a, b = make_cache(), make_cache()
    mutate(a)
    source.put(K)
    held = source.hold(K)
    loading = background.submit(a.get, K, source.load)
    held.wait_for_arrival()
    client.delete(a.keys.lease(K))
    source.put(K)
    (lease,) = b.l2.acquire([K], "b's token", 5000)
    assert lease.state is LeaseState.GRANTED
    source.release(K)
    held.open()
    assert loading.result(LIMIT_S) == V1
    assert (in_l2(client) is None) is as_is(mutate)


@guarded_or(mutants.without_l1_fence)
def test_r18_one_key_of_a_batch_is_invalidated(
    mutate: Mutation, make_cache: MakeCache, source: Source, background: Background
) -> None:
    """R18. B: MGET 1..3 (4 and 5 are missing); W: invalidate 2; B: loads 4 and 5, keeps all. Only 2 is refused."""
    keys = [f"customer_{n}" for n in range(1, 6)]
    w, b = make_cache(), make_cache()
    mutate(b)
    for key in keys:
        source.put(key)
    w.get_many(keys[:3], source.load)
    settle(b)
    gate = background.gate()
    stop_after(b.l2, "read", gate)
    reading = background.submit(b.get_many, keys, source.load)
    gate.wait_for_arrival()
    source.put("customer_2")
    w.invalidate(["customer_2"])
    settle(b)
    gate.open()
    assert set(reading.result(LIMIT_S).values) == {*keys}
    settle(b)
    kept = {key for key in keys if held_in_l1(b, key)}
    assert kept == ({*keys} - {"customer_2"} if as_is(mutate) else {*keys})


@guarded_or(mutants.without_detaching)
def test_nobody_joins_a_load_from_before_an_invalidation(
    mutate: Mutation, make_cache: MakeCache, source: Source, background: Background
) -> None:
    """W: load→v1 under way; W: S:=v2, invalidate; a reader of W that begins now loads anew and gets v2."""
    w = make_cache()
    mutate(w)
    source.put(K)
    held = source.hold(K)
    early = background.submit(w.get, K, source.load)
    held.wait_for_arrival()
    source.put(K)
    w.invalidate([K])
    source.release(K)
    late = background.submit(w.get, K, source.load)
    if not as_is(mutate):
        eventually(lambda: len(w._process.flights._by_key[K]._completions) == 2, "the join")
        held.open()
    assert (late.result(LIMIT_S) == V2) is as_is(mutate)
    held.open()
    assert early.result(LIMIT_S) == V1
