"""The cache on a real cluster of three nodes."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis

from servease_appt.cache import CacheUnavailable, connect
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2 import cluster as l2_cluster
from servease_appt.cache.l2 import make_l2
from servease_appt.cache.l2.protocol import L2, Write, Written
from servease_appt.cache.testing import L2Contract
from servease_appt.cache.worker_queries import WorkerQueries
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.cluster_setup import ClusterSetup
from tests.cache.conftest import Background
from tests.cache.testbed import (
    CODECS,
    PREFIX,
    Cache,
    Source,
    Versioned,
    eventually,
    held_in_l1,
    listening,
    patient_breaker,
    policy,
    settle,
)

KEYS = [f"{kind}_{n}" for kind in ("customer", "vehicle", "employee") for n in range(20)]


@pytest.fixture
def nodes(cluster: ClusterSetup) -> list[EmbeddedValkey]:
    """Three primaries that share the slots."""
    return cluster.nodes


def _reads(cache: Cache, key: str, source: Source, wanted: Versioned) -> bool:
    return cache.get(key, source.load) == wanted


@pytest.fixture
def workers(nodes: list[EmbeddedValkey]) -> Iterator[list[Cache]]:
    """Two caches on the cluster, each as in a worker of its own; patient, since the machine may be busy."""
    for node in nodes:
        with redis.Redis(port=node.port) as client:
            client.flushall()
    url = f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}"
    caches = [
        Cache(connect(url, timeout_s=1.0), CODECS, prefix=PREFIX, policy=policy(), owns_client=True)
        for _ in range(2)
    ]
    yield [listening(cache) for cache in caches]
    for cache in caches:
        cache.close()


def all_keys(nodes: list[EmbeddedValkey]) -> set[str]:
    """Every key on every node."""
    found: set[str] = set()
    for node in nodes:
        with redis.Redis(port=node.port) as client:
            found |= {key.decode() for key in client.scan_iter()}
    return found


def test_a_page_is_shared_by_all_workers(
    workers: list[Cache], nodes: list[EmbeddedValkey], source: Source
) -> None:
    """Loaded once, kept on all nodes, read by the other worker without a load."""
    a, b = workers
    for key in KEYS:
        source.put(key)

    loaded = a.get_many(KEYS, source.load)
    shared = b.get_many(KEYS, source.load)

    assert set(loaded.sources.values()) == {"upstream"}
    assert set(shared.sources.values()) == {"l2"}
    assert shared.values == loaded.values
    assert all(source.loads[key] == 1 for key in KEYS)
    for node in nodes:
        with redis.Redis(port=node.port) as client:
            assert client.dbsize() > 2


def test_an_invalidation_empties_every_tier_of_every_worker(workers: list[Cache], source: Source) -> None:
    """Keys on three nodes are dropped by one call, and the other worker hears of it."""
    a, b = workers
    for key in KEYS:
        source.put(key)
    before = {cache: cache.get_many(KEYS, source.load).values for cache in workers}
    for key in KEYS:
        source.put(key)

    a.invalidate(KEYS)

    after = a.get_many(KEYS, source.load).values
    assert all(after[key] != before[a][key] for key in KEYS)
    eventually(lambda: b.get_many(KEYS, source.load).values == after, "the other worker to follow")


def test_a_fill_that_began_before_an_invalidation_is_refused(
    workers: list[Cache], source: Source, background: Background
) -> None:
    """The fence holds on every node (race R2)."""
    a, b = workers
    for key in KEYS[:6]:
        source.put(key)
        gate = source.hold(key)
        reader = background.submit(a.get, key, source.load)
        gate.wait_for_arrival()
        source.release(key)
        new = source.put(key)
        b.invalidate([key])
        gate.open()
        reader.result(10)
        settle(a, b)
        assert held_in_l1(a, key) is None
        assert b.get(key, source.load) == new


def test_what_belongs_to_a_key_goes_in_one_command(
    workers: list[Cache], nodes: list[EmbeddedValkey], source: Source
) -> None:
    """Value and lease are deleted at once: between the two a load from before could store its value for good."""
    keys = KEYS[:6]
    workers[0].get_many(keys, source.load)
    with contextlib.ExitStack() as stack:
        clients: list[Any] = [stack.enter_context(redis.Redis(port=node.port)) for node in nodes]
        for client in clients:
            client.config_resetstat()
        workers[0].invalidate(keys)
        stats = [client.info("commandstats").get("cmdstat_del", {"calls": 0}) for client in clients]
    assert sum(stat["calls"] for stat in stats) == len(keys)


def test_other_hands_reach_every_worker(
    workers: list[Cache], nodes: list[EmbeddedValkey], source: Source
) -> None:
    """A DEL on whichever node evicts every L1."""
    for key in KEYS[:9]:
        source.put(key)
        for cache in workers:
            cache.get(key, source.load)
        new = source.put(key)
        with redis.RedisCluster(host="127.0.0.1", port=nodes[0].port) as client:
            client.delete(f"{PREFIX}:{key}")
        for cache in workers:
            eventually(partial(_reads, cache, key, source, new), "the worker to follow")


def test_a_slow_write_is_followed_by_an_invalidation(
    workers: list[Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node may have been replaced before the message, by a replica with the value from before."""
    l2 = workers[0].l2
    assert l2.write([Write(KEYS[0], b"{}", 10_000)], "test") == [Written.CHANGED]
    assert l2.read(KEYS[:1])[0] == [b"{}"]
    monkeypatch.setattr(l2_cluster, "SLOW_S", -1.0)
    assert l2.write([Write(KEYS[0], b"[]", 10_000)], "test") == [Written.CHANGED]
    assert l2.read(KEYS[:1])[0] == [None]


def test_a_pattern_is_cleared_on_all_nodes(
    workers: list[Cache], nodes: list[EmbeddedValkey], source: Source
) -> None:
    """Values, copies and leases of one kind go everywhere; the others stay."""
    a, _ = workers
    for key in KEYS:
        source.put(key)
    a.get_many(KEYS, source.load)

    a.invalidate_matching("customer_*")

    left = all_keys(nodes)
    assert not [key for key in left if "customer_" in key]
    assert len([key for key in left if key.startswith(f"{PREFIX}:vehicle_")]) == 20


def test_a_cluster_that_is_away_stops_no_page(source: Source) -> None:
    """The client is made when it is needed; without nodes the source is asked, and an invalidation says so."""
    cache = Cache(
        connect("redis+cluster://127.0.0.1:1"),
        CODECS,
        prefix=PREFIX,
        policy=policy(),
        listen=False,
        owns_client=True,
    )
    value = source.put(KEYS[0])

    assert cache.get(KEYS[0], source.load) == value
    with pytest.raises(CacheUnavailable):
        cache.invalidate([KEYS[0]])
    cache.close()


def test_a_cluster_has_no_other_database() -> None:
    """A URL that names one is refused."""
    with pytest.raises(ValueError, match="database 0"):
        connect("redis+cluster://127.0.0.1:1/1")


def test_every_worker_answers_a_query(workers: list[Cache], nodes: list[EmbeddedValkey]) -> None:
    """Workers may be connected to different nodes: questions and answers cross them all."""
    url = f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}"
    client = connect(url, timeout_s=1.0)
    queries = WorkerQueries(client, workers[0].keys)
    try:
        eventually(
            lambda: (
                {answer["worker"] for answer in queries.query("heard", timeout_s=0.5)}
                == {worker.identity for worker in workers}
            ),
            "the answers",
        )
        eventually(
            lambda: queries.workers().keys() == {worker.identity for worker in workers}, "the register"
        )
    finally:
        client.close()


class TestContract(L2Contract):
    """Three nodes do what one server does."""

    @pytest.fixture
    def l2(self, nodes: list[EmbeddedValkey]) -> Iterator[L2]:
        """An empty one."""
        for node in nodes:
            with redis.Redis(port=node.port) as client:
                client.flushall()
        url = f"redis+cluster://127.0.0.1:{nodes[0].port}"
        with contextlib.closing(connect(url, timeout_s=5.0)) as cluster:
            yield make_l2(cluster, KeySpace(PREFIX), patient_breaker(), None)
