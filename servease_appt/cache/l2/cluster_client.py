"""The client of a Redis Cluster: redis-py's, but made at the first use, with its usual errors, and fork-safe."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException

from servease_appt.cache.forks import after_fork
from servease_appt.cache.l2.nodes import FirstUse, Nodes


class _Client(RedisCluster):
    """RedisCluster with redis-py's usual base class of errors: RedisClusterException is no RedisError."""

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]
        except RedisClusterException as error:  # such as a slot that no node serves
            raise RedisConnectionError(str(error)) from error


class Cluster:
    """A cluster client that is made at its first use, so that an application starts without its Redis.

    It delegates all other attributes to redis-py's RedisCluster, and raises its errors. Thread-safe and fork-safe.

    Attributes:
        nodes: the same cluster, node by node.
    """

    def __init__(self, nodes: Sequence[tuple[str, int]], options: dict[str, Any]) -> None:
        self.nodes = Nodes(nodes, options)
        self._named = nodes
        self._options = options
        self._parents: list[object] = []
        self._made: Any = None
        self._renew()
        after_fork(self, Cluster._renew)

    def _renew(self) -> None:
        """Begin anew, as in a forked child: a thread of the parent may have held a lock of the client."""
        self._parents.append(self._made)
        self._lock = threading.Lock()
        self._first_use = FirstUse()
        self._made = None

    def client(self) -> Any:
        """Return the shared client. The first call reads the topology from the first node that answers."""
        called_at_s = time.monotonic()
        with self._lock:
            if self._made is None:
                nodes = [_node(host, port) for host, port in self._named]
                with self._first_use.attempt(called_at_s):
                    self._made = _Client(startup_nodes=nodes, **self._options)
            return self._made

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()
        self.nodes.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client(), name)


def _node(host: str, port: int) -> ClusterNode:
    return ClusterNode(host, port)  # type: ignore[no-untyped-call]
