"""Commands for several nodes of a cluster at the same time, on the thread of the caller.

All commands are written to all nodes before the first answer is read, so the nodes work at the same time without a
thread for each. Nodes that do not answer cost one timeout together. A redirected command is repeated once.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from servease_appt.cache.l2.cluster_keys import slots_of
from servease_appt.cache.l2.nodes import Node, Nodes
from servease_appt.cache.l2.values import pack_gets, read_values
from servease_appt.cache.wire import Argument, pack

Command = tuple[str | bytes, Sequence[Argument]]
"""A key, which selects the node, and the command."""
_ASKING: Final = pack(("ASKING",))
_VALUE_TYPES: Final = {bytes, type(None)}


class _Batch(NamedTuple):
    """What is sent to one node: the commands' numbers and bytes, and whether each follows an ASKING."""

    node: Node
    numbers: list[int]
    packed: bytes
    asks: bool = False


_Missing = tuple[Sequence[int], Exception]
"""The numbers of the commands without an answer, and why."""
_Receive = Callable[[_Batch, Any], _Missing | None]


def exchange(
    nodes: Nodes,
    commands: Sequence[Command],
    *,
    script: str | None = None,
    without: Collection[str] | None = (),
) -> list[Any]:
    """Send each command to the node of its key, to all nodes at the same time.

    Args:
        nodes: the nodes.
        commands: keys and commands. After EVALSHA, `script` is the text of the script.
        script: see `commands`.
        without: names of nodes that are left out, besides those that do not answer; None: try every node.

    Returns:
        The answers in the same order. A failure is an answer, too: an exception of redis-py.

    Raises:
        redis-py's errors: the topology can't be read.
    """
    nodes.load()
    call = _Call(nodes, len(commands), without)
    keys = [key if isinstance(key, bytes) else key.encode() for key, _ in commands]
    call.send(
        [
            _Batch(node, numbers, b"".join([pack(commands[n][1]) for n in numbers]))
            for node, numbers in call.by_node(slots_of(keys))
        ],
        call.receive,
    )
    call.repeat_redirected(commands, script)
    return call.answers


def read_many(nodes: Nodes, names: Sequence[str], *, without: Collection[str] = ()) -> list[Any]:
    """Do the same as `exchange` for a GET of each name, in less processor time."""
    nodes.load()
    call = _Call(nodes, len(names), without)
    encoded = [name.encode() for name in names]
    call.send(
        [
            _Batch(node, numbers, pack_gets([encoded[n] for n in numbers]))
            for node, numbers in call.by_node(slots_of(encoded))
        ],
        call.receive_values,
    )
    if not _VALUE_TYPES.issuperset(map(type, call.answers)):
        call.repeat_redirected([(name, ("GET", name)) for name in names], None)
    return call.answers


class _Call:
    """The answers to the commands of one call, as they arrive."""

    def __init__(self, nodes: Nodes, count: int, without: Collection[str] | None) -> None:
        self.answers: list[Any] = [None] * count
        self._nodes = nodes
        self._without = without

    def by_node(self, slots: Iterable[int]) -> list[tuple[Node, list[int]]]:
        """Return the numbers of the commands, whose slots these are, by node; answer those that no node gets."""
        served, without = self._nodes.slots, self._without
        numbers_of: dict[Node | None, list[int]] = {}
        for number, slot in enumerate(slots):
            node = served[slot]
            if node in numbers_of:
                numbers_of[node].append(number)
            else:
                numbers_of[node] = [number]
        used: list[tuple[Node, list[int]]] = []
        for node, numbers in numbers_of.items():
            if node is None:
                self._nodes.refresh_soon()
                self._answer(numbers, RedisConnectionError("no node serves this key"))
            elif without is None or (self._nodes.is_read(node, without) and node.usable()):
                used.append((node, numbers))
            else:
                self._answer(numbers, RedisConnectionError(f"{node.name} is not used now"))
        return used

    def send(self, batches: Iterable[_Batch], receive: _Receive) -> None:
        """Write to all nodes, then read from all of them.

        After a timeout, a node that has not answered yet has had the same time, and is not waited for again.
        """
        links: list[tuple[_Batch, Any]] = []
        waited = False
        try:
            for batch in batches:
                link = self._write(batch)
                if link is not None:
                    links.append((batch, link))
            while links:
                batch, link = links[0]
                if waited and not _has_begun_to_answer(link):
                    missing: _Missing | None = batch.numbers, RedisTimeoutError("it did not answer either")
                else:
                    missing = receive(batch, link)
                if missing is None:
                    batch.node.breaker.succeeded()
                else:
                    link.disconnect()
                    waited = waited or isinstance(missing[1], (TimeoutError, RedisTimeoutError))
                    self._failed(batch.node, *missing)
                del links[0]
                batch.node.give_back(link)
        finally:
            for batch, link in links:  # answers are missing: the next command would get them
                link.disconnect()
                batch.node.give_back(link)

    def receive(self, batch: _Batch, link: Any) -> _Missing | None:
        """Read the answers of one node. Returns what is missing; None: nothing."""
        for place, number in enumerate(batch.numbers):
            try:
                self.answers[number] = _after_asking(link) if batch.asks else link.read_response()
            except ResponseError as error:
                self.answers[number] = error
            except (RedisError, OSError) as error:
                return batch.numbers[place:], error
        return None

    def receive_values(self, batch: _Batch, link: Any) -> _Missing | None:
        """Do the same as `receive` for GETs that follow no ASKING."""
        try:
            values = read_values(link, len(batch.numbers))
        except (RedisError, OSError) as error:
            return batch.numbers, error
        answers = self.answers
        for number, value in zip(batch.numbers, values, strict=True):
            answers[number] = value
        return None

    def repeat_redirected(self, commands: Sequence[Command], script: str | None) -> None:
        """Send again what was redirected: to the node that the answer names, or with the text of the script."""
        again: dict[tuple[Node, bool], tuple[list[int], list[bytes]]] = {}
        for number, answer in enumerate(self.answers):
            if not isinstance(answer, ResponseError):
                continue
            key, command = commands[number]
            node, asks = None, False
            if isinstance(answer, NoScriptError) and script is not None:
                node, command = self._nodes.of(key), ("EVAL", script, *command[2:])
            elif isinstance(answer, AskError):  # a MovedError is one, too
                asks = not isinstance(answer, MovedError)
                node = self._redirected_to(key, answer)
            elif isinstance(answer, ClusterDownError):
                self._nodes.refresh_soon()
            if node is not None:
                numbers, packed = again.setdefault((node, asks), ([], []))
                numbers.append(number)
                packed.append(_ASKING + pack(command) if asks else pack(command))
        batches = [
            _Batch(node, numbers, b"".join(packed), asks) for (node, asks), (numbers, packed) in again.items()
        ]
        self.send(batches, self.receive)

    def _redirected_to(self, key: str | bytes, answer: AskError) -> Node | None:
        """Return the node that a redirection names; None if nothing may be read from it now."""
        here = self._nodes.of(key)
        host = answer.host or (here.address[0] if here is not None else "")
        node = self._nodes.at((host, answer.port))
        if not isinstance(answer, MovedError):
            return node
        self._nodes.refresh_soon()
        return node if self._without is None or self._nodes.is_read(node, self._without) else None

    def _write(self, batch: _Batch) -> Any:
        """Return the connection on which the commands were sent; None if they were not."""
        link, sent = None, False
        try:
            link = batch.node.borrow()
            link.send_packed_command([batch.packed])
            sent = True
        except (RedisError, OSError) as error:
            self._failed(batch.node, batch.numbers, error)
        finally:
            if link is not None and not sent:
                link.disconnect()
                batch.node.give_back(link)
        return link if sent else None

    def _failed(self, node: Node, numbers: Sequence[int], error: Exception) -> None:
        self._answer(numbers, error)
        node.breaker.failed()
        self._nodes.refresh_soon()

    def _answer(self, numbers: Iterable[int], error: Exception) -> None:
        for number in numbers:
            self.answers[number] = error


def _after_asking(link: Any) -> Any:
    """Read the answers to ASKING and to its command; raise that to ASKING if it is an error."""
    try:
        link.read_response()
    except ResponseError:
        with contextlib.suppress(ResponseError):
            link.read_response()  # else the next command would get it
        raise
    return link.read_response()


def _has_begun_to_answer(link: Any) -> bool:
    """Return whether a connection, from which nothing was read since, has bytes to read."""
    poll = select.poll()
    poll.register(link._sock, select.POLLIN)  # noqa: SLF001 - `can_read` would take the bytes out of the socket
    return bool(poll.poll(0))
