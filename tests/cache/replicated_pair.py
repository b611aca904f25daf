"""A primary, its replica, and what says which one is the primary."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import redis

from servease_appt.cache import connect
from servease_appt.cache.redis_client import client_options
from servease_appt.cache.sentinel import Sentinels, View
from servease_appt.testing.fault_proxy import Proxy
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.testbed import CODECS, PREFIX, Cache, eventually, listening, settle

QUIET = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "3600")
"""No ping to the replica moves the replication offset between two looks of a test at it."""


class Pair(NamedTuple):
    """A primary, its replica, and a worker that reaches the primary through a proxy."""

    primary: EmbeddedValkey
    replica: EmbeddedValkey
    on_primary: Any
    on_replica: Any
    proxy: Proxy
    worker: Cache

    def wait_for_replication(self) -> None:
        """Wait until the replica follows the primary."""
        eventually(
            lambda: self.on_replica.info("replication")["master_link_status"] == "up", "the replication"
        )

    def take_over(self) -> None:
        """Kill the primary, and lead the worker to the replica."""
        self.primary.kill()
        self.on_replica.replicaof("NO", "ONE")
        self.proxy.target = self.replica.port
        self.proxy.reset()
        settle(self.worker)


@contextlib.contextmanager
def started_pair() -> Iterator[Pair]:
    """Start both servers. The replica has all that the primary has; the worker listens."""
    with (
        EmbeddedValkey(options=QUIET) as primary,
        EmbeddedValkey(options=["--replicaof", "127.0.0.1", str(primary.port)]) as replica,
        Proxy(primary.port) as proxy,
        redis.Redis.from_url(primary.url()) as on_primary,
        redis.Redis.from_url(replica.url()) as on_replica,
    ):
        worker = Cache(connect(proxy.url(), timeout_s=1.0), CODECS, prefix=PREFIX, owns_client=True)
        pair = Pair(primary, replica, on_primary, on_replica, proxy, worker)
        try:
            pair.wait_for_replication()
            listening(worker)
            yield pair
        finally:
            worker.close()


class NamedPrimary(Sentinels):
    """Sentinels that name the server at `port`, at once.

    Attributes:
        port: of 127.0.0.1.
        cut_off: whether most of them can't be reached.
        looks: how often they were asked.
    """

    def __init__(self, port: int) -> None:
        super().__init__([], "main", {})
        self.port = port
        self.cut_off = False
        self.looks = 0

    def client(self, timeout_s: float = 1.0) -> redis.Redis:
        """Return a client of the named server."""
        untyped: Any = self
        client: redis.Redis = untyped.master_for("main", db=1, **client_options(timeout_s=timeout_s))
        return client

    def _look(self) -> None:
        self.looks += 1
        self._view = View(("127.0.0.1", self.port), cut_off=self.cut_off, errors=())
        self._viewed_at_s = self._clock()
