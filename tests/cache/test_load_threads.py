"""A source that hangs costs the values of other sources nothing; a refresh takes no value away."""

import redis

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
