"""L2: the tier that all workers share, on a single Redis server, under sentinels, or on a cluster."""

from __future__ import annotations

from redis import Redis

from servease_appt.cache.breaker import Breaker
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.cluster import ClusterL2
from servease_appt.cache.l2.cluster_client import Cluster
from servease_appt.cache.l2.protocol import L2, Backend
from servease_appt.cache.l2.sentinel_primary import SentinelL2
from servease_appt.cache.l2.single_server import SingleServerL2
from servease_appt.cache.sentinel import sentinels_of
from servease_appt.cache.stats import Observer


def make_l2(client: Redis | Backend, keys: KeySpace, breaker: Breaker, observer: Observer | None) -> L2:
    """Return the implementation for a client that `connect` made, or for another backend."""
    if isinstance(client, Backend):
        return client.make_l2(keys, breaker, observer)
    if isinstance(client, Cluster):
        return ClusterL2(client, keys, breaker, observer)
    sentinels = sentinels_of(client)
    if sentinels is not None:
        return SentinelL2(client, keys, breaker, observer, sentinels)
    return SingleServerL2(client, keys, breaker, observer)
