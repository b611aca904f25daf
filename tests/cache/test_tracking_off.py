"""With tracking off Redis reports no changes of values; every invalidation holds as before."""

import pytest
import redis

from servease_appt.cache import Event, Tier
from tests.cache.conftest import MakeCache
from tests.cache.testbed import PREFIX, Cache, Source, eventually, held_in_l1, policy, settle

K = "customer_1"
OFF = policy(tracking=False)


@pytest.fixture
def warm(make_cache: MakeCache, source: Source) -> tuple[Cache, Cache]:
    """Two workers that hold the first version of a key."""
    source.put(K)
    workers = make_cache(policy=OFF), make_cache(policy=OFF)
    for worker in workers:
        worker.get(K, source.load)
    settle(*workers)
    return workers


def test_redis_tracks_nobody(warm: tuple[Cache, Cache], client: redis.Redis) -> None:
    assert client.info("clients")["tracking_clients"] == 0
    assert all(held_in_l1(worker, K) is not None for worker in warm)


def test_an_invalidation_reaches_every_worker(warm: tuple[Cache, Cache], source: Source) -> None:
    source.put(K)
    warm[0].invalidate([K])
    settle(*warm)
    assert [held_in_l1(worker, K) for worker in warm] == [None, None]
    assert [worker.get(K, source.load) for worker in warm] == [source.load(K, 1.0)] * 2


def test_a_plain_publish_reaches_every_worker_and_redis(
    warm: tuple[Cache, Cache], client: redis.Redis
) -> None:
    client.publish(f"{PREFIX}:invalidate", K)
    settle(*warm)
    assert [held_in_l1(worker, K) for worker in warm] == [None, None]
    eventually(lambda: not client.exists(f"{PREFIX}:{K}"), "the deletion in Redis")


def test_a_write_reaches_every_worker(warm: tuple[Cache, Cache], source: Source) -> None:
    warm[0].set(K, source.put(K), ttl_s=60)
    settle(*warm)
    assert held_in_l1(warm[1], K) is None


def test_a_flush_of_the_database_is_noticed_by_the_next_heartbeat(
    warm: tuple[Cache, Cache], client: redis.Redis, source: Source
) -> None:
    client.flushdb()
    settle(*warm)
    assert [held_in_l1(worker, K) for worker in warm] == [None, None]
    warm[0].get(K, source.load)
    eventually(lambda: warm[0].get(K, source.load) and client.exists(f"{PREFIX}:{K}"), "a fill of Redis")


def test_a_deletion_by_another_client_is_not_noticed(warm: tuple[Cache, Cache], client: redis.Redis) -> None:
    """What is lost with tracking off: L1 keeps the value, until it expires there."""
    client.delete(f"{PREFIX}:{K}")
    settle(*warm)
    assert all(held_in_l1(worker, K) is not None for worker in warm)


def test_a_key_that_another_worker_has_refreshed_is_not_loaded_again(
    warm: tuple[Cache, Cache], client: redis.Redis, source: Source
) -> None:
    """Nobody reports the other worker's fill, so the remaining TTL is read before a refresh."""
    worker = warm[1]
    worker._process.loader._refresh([K], source.load)
    assert worker.recorder.get(Tier.UPSTREAM, Event.REFRESH) == 0  # type: ignore[attr-defined]
    client.pexpire(f"{PREFIX}:{K}", 10_000)  # less than a quarter of the TTL of 60 s
    worker._process.loader._refresh([K], source.load)
    eventually(lambda: source.loads[K] == 2, "a refresh of a key that is due")
    eventually(lambda: client.pttl(f"{PREFIX}:{K}") > 10_000, "the fill of the refresh")
