"""L1 is switched off and on while workers run; every protection stays."""

from collections.abc import Callable

import pytest
import redis

from servease_appt.cache import Mode
from servease_appt.cache import invalidation as invalidation_module
from tests.cache.conftest import MakeCache
from tests.cache.testbed import Cache, Source, eventually, held_in_l1

K = "customer_1"


@pytest.fixture
def workers(make_cache: MakeCache, source: Source) -> tuple[Cache, Cache]:
    """Two workers that hold a value."""
    source.put(K)
    both = make_cache(), make_cache()
    for worker in both:
        worker.get(K, source.load)
    return both


def is_off(cache: Cache) -> Callable[[], bool]:
    return lambda: bool(cache.describe()["l1_switched_off"])


def test_every_worker_stops_to_serve_from_l1(workers: tuple[Cache, Cache], source: Source) -> None:
    """It is emptied and stays empty, reads go to L2, an invalidation holds; `on` ends it."""
    workers[0].worker_queries.switch_l1(off=True)

    for worker in workers:
        eventually(is_off(worker), "the switch")
        lookup = worker.get_many([K], source.load)
        assert lookup.sources[K] == "l2"
        assert held_in_l1(worker, K) is None
        assert worker.mode is Mode.L2_ONLY
    old = source.load(K, 1.0)
    source.put(K)
    workers[0].invalidate([K])
    assert [worker.get(K, source.load) for worker in workers] == [source.load(K, 1.0)] * 2 != [old] * 2

    workers[1].worker_queries.switch_l1(off=False)

    for worker in workers:
        eventually(lambda worker=worker: not is_off(worker)(), "the switch")  # type: ignore[misc]
        worker.get(K, source.load)
        assert held_in_l1(worker, K) is not None
        assert worker.mode is Mode.BOTH


def test_a_read_that_began_before_the_switch_stores_nothing(
    workers: tuple[Cache, Cache], source: Source
) -> None:
    """A store that had passed the check of the switch is refused by its epoch."""
    keeper, l1 = workers[0]._process.keeper, workers[0].l1
    entry, epoch = l1.held([K])[K], l1.epoch()

    keeper.switch(off=True)
    l1.put_many([(K, entry)], epoch)

    assert l1.size() == 0


def test_a_worker_that_starts_later_reads_the_switch(
    workers: tuple[Cache, Cache], make_cache: MakeCache
) -> None:
    """`clear` does not end it: only values are deleted."""
    workers[0].worker_queries.switch_l1(off=True)
    workers[0].invalidate_matching("*")

    eventually(is_off(make_cache()), "the switch")


def test_a_flush_by_hand_ends_it(workers: tuple[Cache, Cache], client: redis.Redis) -> None:
    """The switch goes with the database, and workers notice it as they notice the loss of their values."""
    workers[0].worker_queries.switch_l1(off=True)
    for worker in workers:
        eventually(is_off(worker), "the switch")

    client.flushdb()

    for worker in workers:
        eventually(lambda worker=worker: not is_off(worker)(), "the end of the switch")  # type: ignore[misc]


def test_a_lost_message_is_made_up_for(
    workers: tuple[Cache, Cache], client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker reads the switch when it renews its registration."""
    monkeypatch.setattr(invalidation_module, "REGISTER_EVERY_S", 0.0)

    client.set(workers[0].keys.l1_off, 1)

    for worker in workers:
        eventually(is_off(worker), "the switch")
