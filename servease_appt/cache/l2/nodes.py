"""The nodes of a cluster: which one serves a key, and commands for several of them at the same time.

A node that fails costs the call that finds out one timeout. Later calls leave it out until a trial on a thread of
its own succeeds; the other nodes are not affected. A command that a node redirects is repeated once where it says.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.forks import after_fork
from servease_appt.cache.l2.values import read_values
from servease_appt.cache.threads import run_in_thread
from servease_appt.cache.wire import pack

SLOTS: Final = 16384
COOL_DOWN_S: Final = 2.0
REFRESH_S: Final = 0.5
"""The topology is read at most once in this time, however many commands fail."""

Address = tuple[str, int]
Command = tuple[str | bytes, Sequence[Any]]
"""A key, which selects the node, and the command; bytes are a command that is packed already."""
_Item = tuple[int, Sequence[Any], bool]
"""The command's number, the command, and whether it follows an ASK."""
_Receive = Callable[["Node", Any, list[_Item], list[Any]], None]


class Node:
    """One primary. Thread-safe."""

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        self.address = address
        self.name = f"{address[0]}:{address[1]}"
        self.client = Redis(host=address[0], port=address[1], **options)
        self.breaker = Breaker(threshold=1, cool_down_s=COOL_DOWN_S)

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
        self._by_address: dict[Address, Node] = {}
        self._slots: list[Node | None] = []
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
        return self._slots[key_slot(key if isinstance(key, bytes) else key.encode())]

    def primaries(self) -> list[Node]:
        """Return the primaries that serve slots. Raises redis-py's errors."""
        self._load()
        return self._primaries

    def servers(self) -> list[Node]:
        """Return the primaries and replicas. Raises redis-py's errors."""
        self._load()
        return [self._node(address) for address in self._known]

    def known_primaries(self) -> list[Node]:
        """Return the same as `primaries`, as it was last read. Sends nothing."""
        return self._primaries

    def slot_of(self, node: Node) -> int:
        """Return a slot that a primary serves; any slot if it serves none any more."""
        return self._slots.index(node) if node in self._primaries else 0

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

    def _load(self) -> None:
        if not self._slots:
            with self._lock:
                if not self._slots:
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
            node = self._node(address)
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
            slots[first : last + 1] = [self._node(addresses[0])] * (last + 1 - first)
        if not known:
            raise RedisConnectionError("the cluster serves no slots")
        primaries = list(dict.fromkeys(node for node in slots if node is not None))
        if self.compared:
            self.not_compared |= {node.name for node in primaries if node not in self._primaries}
        self._primaries = primaries
        self._slots, self._known = slots, list(dict.fromkeys(known))

    def _node(self, address: Address) -> Node:
        node = self._by_address.get(address)
        return node or self._by_address.setdefault(address, Node(address, self._options))

    def exchange(
        self,
        commands: Sequence[Command],
        *,
        script: str | None = None,
        without: Collection[str] | None = (),
        values: bool = False,
    ) -> list[Any]:
        """Send each command to the node of its key, to all nodes at the same time.

        Args:
            commands: keys and commands. After EVALSHA, `script` is the text of the script.
            script: see `commands`.
            without: names of nodes that are left out, besides those that do not answer; None: try every node.
            values: True if all commands are GETs, which are read faster.

        Returns:
            The answers in the same order. A failure is an answer, too: an exception of redis-py.

        Raises:
            redis-py's errors: the topology can't be read.
        """
        self._load()
        answers: list[Any] = [None] * len(commands)
        by_node: dict[Node, list[_Item]] = {}
        left_out: set[Node] = set()
        slots = self._slots
        for number, (key, command) in enumerate(commands):
            node = slots[key_slot(key if type(key) is bytes else str(key).encode())]
            if node is None:
                answers[number] = RedisConnectionError("no node serves this key")
                self.refresh_soon()
                continue
            items = by_node.get(node)
            if items is None:
                if node in left_out or (
                    without is not None and (not self._is_read(node, without) or not node.usable())
                ):
                    left_out.add(node)
                    answers[number] = RedisConnectionError(f"{node.name} is not used now")
                    continue
                items = by_node[node] = []
            items.append((number, command, False))
        self._send(by_node, answers, self._receive_values if values else self._receive)
        again = self._redirected(commands, answers, script, without)
        if again:
            self._send(again, answers, self._receive)
        return answers

    def _is_read(self, node: Node, without: Collection[str]) -> bool:
        """Return False for a node that is left out, and for one whose history was not compared yet."""
        proven = not self.compared or (node in self._primaries and node.name not in self.not_compared)
        return proven and node.name not in without

    def _redirected(
        self,
        commands: Sequence[Command],
        answers: list[Any],
        script: str | None,
        without: Collection[str] | None,
    ) -> dict[Node, list[_Item]]:
        """Return the commands to send again: to the node that a redirection names, or with the script's text."""
        again: dict[Node, list[_Item]] = {}
        for number, answer in enumerate(answers):
            if not isinstance(answer, ResponseError):
                continue
            key, command = commands[number]
            if isinstance(answer, NoScriptError) and script is not None:
                node, command, asks = self.of(key), ("EVAL", script, *command[2:]), False
            elif isinstance(answer, AskError):  # a MovedError is one, too
                asks = not isinstance(answer, MovedError)
                here = self.of(key)
                host = answer.host or (here.address[0] if here is not None else "")
                node = self._node((host, answer.port))
                if not asks:
                    self.refresh_soon()
                    if without is not None and not self._is_read(node, without):
                        continue
            else:
                continue
            if node is not None:
                again.setdefault(node, []).append((number, command, asks))
        return again

    def _send(self, by_node: dict[Node, list[_Item]], answers: list[Any], receive: _Receive) -> None:
        links: list[tuple[Node, Any, list[_Item]]] = []
        try:
            for node, items in by_node.items():
                try:
                    link = node.client.connection_pool.get_connection()
                except (RedisError, OSError) as error:
                    self._failed(node, items, answers, error)
                    continue
                links.append((node, link, items))
                try:
                    untyped: Any = link
                    untyped.send_packed_command([b"".join(_packed(items))])
                except (RedisError, OSError) as error:
                    untyped.disconnect()
                    links.pop()
                    node.client.connection_pool.release(link)
                    self._failed(node, items, answers, error)
            for node, link, items in links:
                receive(node, link, items, answers)
        finally:
            for node, link, _ in links:
                node.client.connection_pool.release(link)

    def _receive_values(self, node: Node, link: Any, items: list[_Item], answers: list[Any]) -> None:
        """Do the same as `_receive` for GETs that follow no ASK."""
        try:
            values = read_values(link, len(items))
        except (RedisError, OSError) as error:
            link.disconnect()
            self._failed(node, items, answers, error)
            return
        except BaseException:
            link.disconnect()
            raise
        for (number, _, _), value in zip(items, values, strict=True):
            answers[number] = value
            if isinstance(value, ClusterDownError):
                self.refresh_soon()
        node.breaker.succeeded()

    def _receive(self, node: Node, link: Any, items: list[_Item], answers: list[Any]) -> None:
        complete = False
        try:
            for place, (number, _, asks) in enumerate(items):
                try:
                    if asks:
                        link.read_response()
                    answers[number] = link.read_response()
                except ResponseError as error:
                    answers[number] = error
                    if isinstance(error, ClusterDownError):
                        self.refresh_soon()
                except (RedisError, OSError) as error:
                    self._failed(node, items[place:], answers, error)
                    return
            complete = True
            node.breaker.succeeded()
        finally:
            if not complete:  # answers are missing: the next command would get them
                link.disconnect()

    def _failed(self, node: Node, items: list[_Item], answers: list[Any], error: Exception) -> None:
        for number, _, _ in items:
            answers[number] = error
        node.breaker.failed()
        self.refresh_soon()


def _packed(items: list[_Item]) -> Iterator[bytes]:
    for _, command, asks in items:
        if asks:
            yield pack(("ASKING",))
        yield command if type(command) is bytes else pack(command)
