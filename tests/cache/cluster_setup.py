"""A cluster of three primaries, as processes, whose slots are shared out evenly."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from servease_appt.testing.servers import EmbeddedValkey, free_port
from tests.cache.testbed import eventually

SLOTS = 16384
OPTIONS = [
    *("--cluster-enabled", "yes"),
    *("--cluster-node-timeout", "1000"),
    *("--cluster-require-full-coverage", "no"),
    *("--repl-diskless-sync-delay", "0"),
]


class ClusterSetup:
    """Primaries, and replicas that a test adds. A context manager that stops them.

    Args:
        primaries: the number of primaries that share the slots.
        spares: the number of nodes that are started at once for `add_node`: each new node needs 2 s.
    """

    def __init__(self, primaries: int = 3, *, spares: int = 0) -> None:
        self._count = primaries
        self._spare_count = spares
        self._spares: list[EmbeddedValkey] = []
        self._stack = contextlib.ExitStack()
        self._buses: dict[int, int] = {}
        self.nodes: list[EmbeddedValkey] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def url(self) -> str:
        """The URL that names two of its nodes."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port},127.0.0.1:{self.nodes[1].port}"

    def owners(self, names: Sequence[str]) -> list[EmbeddedValkey]:
        """The primary of each name."""
        ranges, slots = self._ranges(), [key_slot(name.encode()) for name in names]
        return [
            self.by_port(first[1]) for slot in slots for low, high, first, *_ in ranges if low <= slot <= high
        ]

    def primaries(self) -> list[EmbeddedValkey]:
        """All primaries with slots."""
        return [self.by_port(port) for port in dict.fromkeys(first[1] for _, _, first, *_ in self._ranges())]

    def replicas(self, of: EmbeddedValkey) -> list[EmbeddedValkey]:
        """The replicas of a primary."""
        ports = [
            server[1] for _, _, first, *found in self._ranges() if first[1] == of.port for server in found
        ]
        return [self.by_port(port) for port in dict.fromkeys(ports)]

    def by_port(self, port: int) -> EmbeddedValkey:
        """The node with a port."""
        return next(node for node in self.nodes if node.port == port)

    def add_node(self) -> EmbeddedValkey:
        """Return a node without slots that serves, once it and the others know each other."""
        node = self._spares.pop() if self._spares else self._meet(self._new(self._stack))
        eventually(partial(self._serves, node), "the state", timeout_s=20)
        self._wait_until_known(node)
        self.nodes.append(node)
        return node

    def add_replica(self, of: EmbeddedValkey) -> EmbeddedValkey:
        """Start a replica that has all that its primary has. It serves at once, unlike a new primary."""
        replica = self._meet(self._new(self._stack))
        self._wait_until_known(replica)
        primary_id = self.do(of, "CLUSTER", "MYID")
        eventually(partial(self._knows, replica, primary_id), "the meeting", timeout_s=20)
        self.nodes.append(replica)
        self.do(replica, "CLUSTER", "REPLICATE", primary_id.decode())
        eventually(partial(self._is_linked, replica), "the replication", timeout_s=20)
        eventually(partial(self._serves, replica), "the state", timeout_s=20)
        for node in self.primaries():
            eventually(
                partial(self._has_replica, node, replica.port), "the news of the replica", timeout_s=20
            )
        return replica

    def is_primary(self, node: EmbeddedValkey) -> bool:
        """Whether a node is a primary and serves."""
        with redis.Redis(port=node.port) as client:
            return client.info("replication")["role"] == "master" and self._serves(node)

    @staticmethod
    def do(node: EmbeddedValkey, *command: str | int) -> Any:
        """Send a command to one node."""
        with redis.Redis(port=node.port, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            untyped: Any = client
            return untyped.execute_command(*command)

    def _start(self, stack: contextlib.ExitStack) -> None:
        self.nodes = [self._new(stack) for _ in range(self._count)]
        for number, node in enumerate(self.nodes):
            first, last = number * SLOTS // self._count, (number + 1) * SLOTS // self._count - 1
            self.do(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
            self.do(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        self._spares = [self._new(stack) for _ in range(self._spare_count)]
        for node in [*self.nodes[1:], *self._spares]:
            self._meet(node)
        for node in self.nodes:
            eventually(partial(self._is_whole, node), "the cluster", timeout_s=20)

    def _new(self, stack: contextlib.ExitStack) -> EmbeddedValkey:
        # The nodes' own port is 10,000 above the other unless it is named, which may be one too many.
        bus = free_port()
        node = stack.enter_context(EmbeddedValkey(options=[*OPTIONS, "--cluster-port", str(bus)]))
        self._buses[node.port] = bus
        return node

    def _meet(self, node: EmbeddedValkey) -> EmbeddedValkey:
        known = self.primaries()[0]
        self.do(node, "CLUSTER", "MEET", "127.0.0.1", known.port, self._buses[known.port])
        return node

    def _wait_until_known(self, node: EmbeddedValkey) -> None:
        id_ = self.do(node, "CLUSTER", "MYID")
        for other in self.primaries():
            eventually(partial(self._knows, other, id_), "the meeting", timeout_s=20)

    def _serves(self, node: EmbeddedValkey) -> bool:
        return b"cluster_state:ok" in self.do(node, "CLUSTER", "INFO")

    def _is_whole(self, node: EmbeddedValkey) -> bool:
        ranges = self.do(node, "CLUSTER", "SLOTS")
        return self._serves(node) and len(ranges) == self._count

    def _ranges(self) -> list[Any]:
        for node in self.nodes:
            try:
                found: list[Any] = self.do(node, "CLUSTER", "SLOTS")
            except redis.RedisError:
                continue
            if found:
                return found
        raise AssertionError("no node of the cluster answers")

    def _knows(self, node: EmbeddedValkey, id_: bytes) -> bool:
        return id_ in self.do(node, "CLUSTER", "NODES")

    def _is_linked(self, replica: EmbeddedValkey) -> bool:
        with redis.Redis(port=replica.port) as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    def _has_replica(self, node: EmbeddedValkey, port: int) -> bool:
        servers = [server for _, _, *found in self.do(node, "CLUSTER", "SLOTS") for server in found[1:]]
        return port in [server[1] for server in servers]
