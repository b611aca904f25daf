"""An operator's connection to the cache: Redis and the cache's own protocol, without being a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis import Redis

from servease_appt.cache import Stats, TwoTierCache, connect
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.worker_queries import WorkerQueries
from servease_appt.container import Container
from servease_appt.references.enrichment import cache_policy
from servease_appt.references.entities import CODECS, Reference
from servease_appt.settings import Settings

REDIS_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class OperatorSession:
    """The cache as one command sees it: no listener, no worker, and longer timeouts than a request has.

    Attributes:
        container: the parts of the application that the command runs in.
        client: answers within `REDIS_TIMEOUT_S`, or raises redis-py's errors.
        cache: invalidates and fills as a worker does, but subscribes to nothing.
        counts: what `cache` did.
    """

    container: Container
    client: Redis
    cache: TwoTierCache[Reference]
    counts: Stats

    @property
    def settings(self) -> Settings:
        """Return the settings of the application."""
        return self.container.settings

    @property
    def keys(self) -> KeySpace:
        """Return how keys are named in Redis."""
        return self.cache.keys

    @property
    def queries(self) -> WorkerQueries:
        """Return the way to query all workers."""
        return self.cache.worker_queries


@contextmanager
def operator_session(container: Container) -> Iterator[OperatorSession]:
    """Open a session for one command and close it afterwards. Nothing is sent before it is needed."""
    settings = container.settings
    client = connect(settings.redis_url, timeout_s=REDIS_TIMEOUT_S)
    counts = Stats()
    cache = TwoTierCache(
        client,
        CODECS,
        prefix=settings.cache_key_prefix,
        policy=cache_policy(settings),
        recorder=counts,
        listen=False,
    )
    try:
        yield OperatorSession(container, client, cache, counts)
    finally:
        cache.close()
        client.close()
