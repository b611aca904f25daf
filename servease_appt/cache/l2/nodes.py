"""The nodes of a cluster, their connections, and the topology: which node serves a key.

A node that fails costs the call that finds out one timeout. Later calls leave it out until a trial on a thread of
its own succeeds; the other nodes are not affected.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.forks import after_fork
from servease_appt.cache.l2.cluster_keys import SLOTS
from servease_appt.cache.threads import run_in_thread

COOL_DOWN_S: Final = 2.0
REFRESH_S: Final = 0.5
"""The topology is read at most once in this time, however many commands fail."""

Address = tuple[str, int]


class Node:
    """One primary. Thread-safe."""

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        self.address = address
        self.name = f"{address[0]}:{address[1]}"
        self.client = Redis(host=address[0], port=address[1], **options)
        self.breaker = Breaker(threshold=1, cool_down_s=COOL_DOWN_S)
        self._idle: list[Any] = []

    def borrow(self) -> Any:
        """Return a connection without unread answers, for `give_back`. Raises redis-py's errors.

        Connections stay out of redis-py's pool, which makes them, closes them and limits their number: to take one
        out and put it back costs 8 µs, which a page pays for each node.
        """
        try:
            link = self._idle.pop()
        except IndexError:
            return self.client.connection_pool.get_connection()
        try:
            clean = not link.can_read()
        except (RedisError, OSError):  # the server has closed it
            clean = False
        if not clean:
            link.disconnect()  # it connects when a command is sent
        return link

    def give_back(self, link: Any) -> None:
        """Keep a connection for the next `borrow`: one with all answers read, or a disconnected one."""
        self._idle.append(link)

    def usable(self) -> bool:
        """Return False while the node does not answer; a trial then runs on its own thread."""
        if self.breaker.state is BreakerState.CLOSED:
            return True
        if self.breaker.allows():
            run_in_thread("probe", self.probe)
        return False

    def probe(self) -> bool:
        """Send a PING and report to the breaker. Returns True if the node answered."""
        try:
            self.client.ping()
        except (RedisError, OSError):
            self.breaker.failed()
            return False
        self.breaker.succeeded()
        return True


class FirstUse:
    """The first use of a cluster, by threads one after another: who has waited for one that fails fails with it.

    Otherwise each thread would wait for all the timeouts of those before it. Call it with a lock held.
    """

    def __init__(self) -> None:
        self._failed_at_s = float("-inf")
        self._error = ""

    @contextmanager
    def attempt(self, since_s: float) -> Iterator[None]:
        """Do the block, unless another thread's has failed since then. Raises redis-py's errors."""
        if self._failed_at_s >= since_s:
            raise RedisConnectionError(self._error)
        try:
            yield
        except (RedisError, OSError) as error:
            self._failed_at_s, self._error = time.monotonic(), str(error)
            raise


class Nodes:
    """The topology of a cluster, read at the first use. Thread-safe and fork-safe.

    Attributes:
        compared: True while a listener compares the nodes' replication histories.
        not_compared: names of primaries that a later topology named first, until their history was compared. A
            promoted replica may lack invalidations, so nothing is read from it until then.
    """

    def __init__(self, addresses: Sequence[Address], options: dict[str, Any]) -> None:
        taken = inspect.signature(Redis.__init__).parameters
        self._options = {name: value for name, value in options.items() if name in taken}
        self._named = list(addresses)
        self._parents: list[object] = []
        self._renew()
        after_fork(self, Nodes._renew)

    def _renew(self) -> None:
        """Begin anew, as in a forked child: threads of the parent may have held the locks.

        What the parent had is kept: to collect it would close its connections under those locks.
        """
        self._parents.append(vars(self).get("_by_address"))
        self._lock = threading.Lock()
        self._first_use = FirstUse()
        self._by_address: dict[Address, Node] = {}
        self.slots: list[Node | None] = []
        self._primaries: list[Node] = []
        self._known: list[Address] = list(self._named)
        self._stale = False
        self._read_at_s = float("-inf")
        self.compared = False
        self.not_compared: set[str] = set()

    def close(self) -> None:
        """Close the connections to all nodes."""
        for node in list(self._by_address.values()):
            node.client.close()

    def of(self, key: str | bytes) -> Node | None:
        """Return the node that serves a key; None if none does."""
        return self.slots[key_slot(key if isinstance(key, bytes) else key.encode())]

    def primaries(self) -> list[Node]:
        """Return the primaries that serve slots. Raises redis-py's errors."""
        self.load()
        return self._primaries

    def servers(self) -> list[Node]:
        """Return the primaries and replicas. Raises redis-py's errors."""
        self.load()
        return [self.at(address) for address in self._known]

    def known_primaries(self) -> list[Node]:
        """Return the same as `primaries`, as it was last read. Sends nothing."""
        return self._primaries

    def slot_of(self, node: Node) -> int:
        """Return a slot that a primary serves; any slot if it serves none any more."""
        return self.slots.index(node) if node in self._primaries else 0

    def all_down(self) -> bool:
        """Return True if no primary answers."""
        return all(node.breaker.state is not BreakerState.CLOSED for node in self._primaries)

    def refresh_soon(self) -> None:
        """Read the topology again before the next commands."""
        self._stale = True

    def refresh(self) -> None:
        """Read the topology from the first node that answers. Raises redis-py's errors."""
        with self._lock:
            self._read()

    def load(self) -> None:
        """Read the topology, at the first use and after `refresh_soon`. Raises redis-py's errors."""
        if not self.slots:
            called_at_s = time.monotonic()
            with self._lock:
                if not self.slots:
                    with self._first_use.attempt(called_at_s):
                        self._read()
        elif (
            self._stale
            and time.monotonic() - self._read_at_s > REFRESH_S
            and self._lock.acquire(blocking=False)
        ):
            try:  # unless another thread reads it
                self._read()
            except (RedisError, OSError):
                self._read_at_s = time.monotonic()  # the known topology is used until then
            finally:
                self._lock.release()

    def _read(self) -> None:
        """Read the topology; nodes that answered last are asked first."""
        error: Exception = RedisConnectionError("the cluster has no nodes")
        healthy = [n.address for n in self._by_address.values() if n.breaker.state is BreakerState.CLOSED]
        for address in dict.fromkeys([*healthy, *self._known, *self._named]):
            node = self.at(address)
            try:
                untyped: Any = node.client
                self._use(untyped.execute_command("CLUSTER", "SLOTS"), address)
            except (RedisError, OSError) as failure:
                error = failure
                if not isinstance(failure, ResponseError):
                    node.breaker.failed()
                continue
            node.breaker.succeeded()
            self._stale, self._read_at_s = False, time.monotonic()
            return
        raise error

    def _use(self, ranges: list[Any], answered: Address) -> None:
        slots: list[Node | None] = [None] * SLOTS
        known: list[Address] = []
        for first, last, *servers in ranges:
            # A node that does not know its own name leaves it empty.
            addresses = [
                ((host or b"").decode().replace("?", "") or answered[0], int(port))
                for host, port, *_ in servers
            ]
            known += addresses
            slots[first : last + 1] = [self.at(addresses[0])] * (last + 1 - first)
        if not known:
            raise RedisConnectionError("the cluster serves no slots")
        primaries = list(dict.fromkeys(node for node in slots if node is not None))
        if self.compared:
            self.not_compared |= {node.name for node in primaries if node not in self._primaries}
        self._primaries = primaries
        self.slots, self._known = slots, list(dict.fromkeys(known))

    def at(self, address: Address) -> Node:
        """Return the node at an address, also one that no topology has named yet."""
        node = self._by_address.get(address)
        return node or self._by_address.setdefault(address, Node(address, self._options))

    def is_read(self, node: Node, without: Collection[str]) -> bool:
        """Return False for a node that is left out, and for one whose history was not compared yet."""
        proven = not self.compared or (node in self._primaries and node.name not in self.not_compared)
        return proven and node.name not in without
