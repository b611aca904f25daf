"""The channel of a cluster: messages from the node of the sequence, tracking messages from every primary.

PUBLISH reaches every node of a cluster, so one subscription is enough. Each node sends tracking messages for its
own keys only. A node that is lost affects its own keys; it is connected again, and the topology is compared, while
the other nodes serve on.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, cast

from redis import Redis
from redis.exceptions import AskError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from servease_appt.cache.channel import Changed, Channel, Frame, NodeBack, NodeLost, PushChannel, Reply
from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.cluster_client import Cluster
from servease_appt.cache.l2.cluster_keys import tag_of_slot
from servease_appt.cache.l2.nodes import Node
from servease_appt.cache.l2.protocol import Backend
from servease_appt.cache.replication import Continuity, Histories, Replication, parse
from servease_appt.cache.threads import run_in_thread

SILENT_FOR_S: Final = 1.5
TOPOLOGY_S: Final = 2.0
_ANSWERS_A_BEAT: Final = 2


@dataclass(slots=True, eq=False)
class _Link:
    """The connection to one primary that does not have the sequence."""

    node: Node
    channel: Channel
    asked_at_s: float | None = None
    invalidations: int = 0
    confirmed: bool = False
    ignored: int = 0
    """The number of answers to come that are about no heartbeat."""
    answers: list[object] = field(default_factory=list)
    held: tuple[Replication | None, int] | None = None
    """The first report of a promoted node, with `invalidations` of then, until earlier messages are handled."""
    held_at_s: float = 0.0


class ClusterChannel:
    """One connection to each primary. For one thread. Failures of the sequence's node are raised.

    Attributes:
        server: the name of the node of the sequence.
    """

    def __init__(
        self,
        cluster: Cluster,
        keys: KeySpace,
        histories: Histories,
        clock: Callable[[], float] = elapsed_s,
    ) -> None:
        self._nodes = cluster.nodes
        self._keys = keys
        self._histories = histories
        self._clock = clock
        self._events: deque[Frame] = deque()
        self._links: dict[str, _Link] = {}
        self._tracking: tuple[str | bytes, ...] = ()
        self._lock = threading.Lock()
        self._closed = False
        self._connecting: set[str] = set()
        self._connected: deque[tuple[Node, Channel | None]] = deque()
        self._compared_at_s = clock()
        self._nodes.refresh()
        main = self._nodes.of(keys.sequence)
        if main is None:
            raise RedisConnectionError("no node serves the sequence")
        self.server = main.name
        self._main = Channel(main.client)
        self._unheard: set[str] = set()
        for node in self._others():
            self._note_lost(node.name)
            self._connect(node)

    @property
    def servers(self) -> Collection[str]:
        """The names of all primaries."""
        return {node.name for node in self._nodes.known_primaries()}

    @property
    def server_version(self) -> tuple[str, str]:
        """The kind and version of the node of the sequence; see `Channel.server_version`."""
        return self._main.server_version

    def send(self, *command: str | bytes) -> None:
        """Send to the node of the sequence; the request for tracking messages is for every node."""
        self._main.send(*command)
        if command[0] == "CLIENT":
            self._tracking = command

    def send_heartbeat(self, *commands: Sequence[str | bytes]) -> None:
        """Send to the node of the sequence, and a heartbeat of its own to every other node."""
        self._main.send_heartbeat(*commands)
        self._compare_topology()
        self._add_connected()
        for link in list(self._links.values()):
            self._beat(link)

    def on_heartbeat(self, sent_at_s: float) -> None:
        """Handle that the sequence's node has answered a heartbeat, and that its history was compared.

        All messages from before the heartbeat have been handled, or it has shown that some were missed.
        """
        self._nodes.compared = True
        self._nodes.not_compared.discard(self.server)
        for link in list(self._links.values()):
            if link.held is not None and sent_at_s >= link.held_at_s:
                self._confirm(link, *link.held)

    def wait(self, wake: socket.socket, timeout_s: float) -> None:
        """See `Channel.wait`."""
        self._add_connected()
        if not self.has_frame():
            self._main.wait(wake, timeout_s, [link.channel.link for link in self._links.values()])

    def has_frame(self) -> bool:
        """See `PushChannel.has_frame`."""
        if self._events or self._main.has_frame():
            return True
        return any(link.channel.has_frame() for link in self._links.values())

    def receive(self) -> tuple[bool, Frame]:
        """See `Channel.receive`. The answers of the other nodes are handled here."""
        if self._events:
            return True, self._events.popleft()
        there, frame = self._main.receive()
        if there:
            return True, frame
        for link in list(self._links.values()):
            try:
                there, frame = self._receive_from(link)
            except (RedisError, OSError):
                self._lose(link)
                continue
            if there:
                return True, frame
        return (True, self._events.popleft()) if self._events else (False, None)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
        waiting = [channel for _, channel in self._connected if channel is not None]
        for channel in (self._main, *(link.channel for link in self._links.values()), *waiting):
            channel.close()

    def _others(self) -> list[Node]:
        return [node for node in self._nodes.known_primaries() if node.name != self.server]

    def _connect(self, node: Node) -> None:
        """Connect on a thread: a node that does not answer must not delay the messages of the others."""
        self._connecting.add(node.name)
        run_in_thread("connect", lambda: self._connect_now(node))

    def _connect_now(self, node: Node) -> None:
        channel = None
        with suppress(RedisError, OSError):
            channel = Channel(node.client)
        with self._lock:
            if not self._closed:
                self._connected.append((node, channel))
                return
        if channel is not None:
            channel.close()

    def _add_connected(self) -> None:
        while self._connected:
            node, channel = self._connected.popleft()
            self._connecting.discard(node.name)
            if channel is None:
                continue
            link = self._links[node.name] = _Link(node, channel)
            if self._tracking:
                link.ignored += 1
                self._send(link, self._tracking)

    def _compare_topology(self) -> None:
        """Listen to the present primaries, and to no others; read the topology now and then on a thread."""
        now = self._clock()
        if now - self._compared_at_s > TOPOLOGY_S:
            self._compared_at_s = now
            run_in_thread("topology", self._refresh)
        main = self._nodes.of(self._keys.sequence)
        if main is None or main.name != self.server:
            raise RedisConnectionError("the sequence is on another node now")
        present = {node.name: node for node in self._others()}
        for name in self._links.keys() - present.keys():
            self._lose(self._links[name])
        for name in self._unheard - present.keys():
            self._unheard.discard(name)
            self._events.append(NodeLost(name, gone=True))
        for name in present.keys() - self._links.keys() - self._connecting:
            self._connect(present[name])

    def _refresh(self) -> None:
        with suppress(RedisError, OSError):
            self._nodes.refresh()

    def _beat(self, link: _Link) -> None:
        if link.confirmed:
            # The listener has handled that by now: a node that lost invalidations is among the old ones.
            self._nodes.not_compared.discard(link.node.name)
        now = self._clock()
        if link.asked_at_s is not None:
            if now - link.asked_at_s > SILENT_FOR_S:
                link.node.breaker.failed()
                self._lose(link)
            return
        link.asked_at_s, link.invalidations = now, self._histories.invalidations
        tag = tag_of_slot(self._nodes.slot_of(link.node))
        write = ("UNLINK", f"{self._keys.prefix}:__beat:{{{tag}}}")
        self._send(link, write, ("INFO", "REPLICATION"))

    def _send(self, link: _Link, *commands: Sequence[str | bytes]) -> None:
        try:
            link.channel.send_together(*commands)
        except (RedisError, OSError):
            self._lose(link)

    def _receive_from(self, link: _Link) -> tuple[bool, Frame]:
        there, frame = link.channel.receive()
        while there and isinstance(frame, Reply):
            if link.ignored:
                link.ignored -= 1
            else:
                link.answers.append(frame.value)
            if len(link.answers) == _ANSWERS_A_BEAT:
                write, info = link.answers
                link.answers = []
                self._on_beat(link, write, info)
            there, frame = link.channel.receive()
        if there and isinstance(frame, Changed) and frame.names is None:
            return True, NodeBack(link.node.name, invalidations_lost=False)  # it was flushed
        return there, frame

    def _on_beat(self, link: _Link, write: object, info: object) -> None:
        """Confirm a node, or raise if it is not, or may not be, a primary."""
        report = parse(info)
        if isinstance(write, AskError):  # a MovedError, too: that slot has left the node
            self._nodes.refresh_soon()
        elif isinstance(write, ResponseError) and not isinstance(write, NoPermissionError):
            raise write
        if report is not None and not report.is_primary:
            raise RedisConnectionError("the node is not a primary")
        link.asked_at_s = None
        name, servers = link.node.name, self.servers
        continuity = self._histories.compare(name, report, reconnected=not link.confirmed, servers=servers)
        if link.confirmed:
            if continuity in (Continuity.BROKEN, Continuity.CONTINUED):
                raise RedisConnectionError("the node was demoted meanwhile")
            self._histories.accept(name, report, link.invalidations, servers)
        elif continuity is not Continuity.CONTINUED:
            self._confirm(link, report, link.invalidations)
        elif link.held is None:  # an invalidation from before the promotion may not have been received
            link.held, link.held_at_s = (report, link.invalidations), self._clock()

    def _confirm(self, link: _Link, report: Replication | None, invalidations: int) -> None:
        """Compare the first report of a connection, and use the node again."""
        name, servers = link.node.name, self.servers
        continuity = self._histories.compare(name, report, reconnected=True, servers=servers)
        link.held, link.confirmed = None, True
        self._unheard.discard(name)
        self._events.append(NodeBack(name, invalidations_lost=continuity is Continuity.BROKEN))
        self._histories.accept(name, report, invalidations, servers)

    def _lose(self, link: _Link) -> None:
        if self._links.pop(link.node.name, None) is not None:
            link.channel.close()
            self._nodes.refresh_soon()
            self._note_lost(link.node.name)

    def _note_lost(self, name: str) -> None:
        self._unheard.add(name)
        self._events.append(NodeLost(name))


def open_channel(
    client: object,
    keys: KeySpace,
    *,
    histories: Histories | None = None,
    clock: Callable[[], float] = elapsed_s,
) -> PushChannel:
    """Return a channel to what a client connects to: a server, a cluster, or a `Backend`.

    Args:
        client: a client that `connect` made.
        keys: the names of keys.
        histories: what earlier channels saw of the servers' histories; None: nothing.
        clock: returns seconds.

    Raises:
        redis-py's errors or OSError: the server does not answer.
    """
    if isinstance(client, Backend):
        return client.open_channel(keys, clock)
    if isinstance(client, Cluster):
        return ClusterChannel(client, keys, histories or Histories(), clock)
    return Channel(cast("Redis", client))
