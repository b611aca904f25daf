"""L2 on a Redis Cluster: the same operations, with one pipeline for each node that holds some of the keys.

A key's value, lease, absence and stale copy share its slot (see `keys.py`), so each script runs on one node. The
sequence is in another slot. An invalidation therefore deletes in every slot first and announces last, which is the
order that matters; tracking messages cover a crash in between. A cluster has only database 0.
"""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, cast

from redis import Redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from servease_appt.cache.breaker import Breaker
from servease_appt.cache.channel import Channel, Frame, Reply
from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.protocol import Announced, Fill, Lease, LeaseState, Write, WriteMode, Written
from servease_appt.cache.l2.single_server import (
    SCAN_BATCH,
    SingleServerL2,
    fill_args,
    fingerprint,
    read_leases,
    read_stored,
    script_source,
)
from servease_appt.cache.messages import Invalidation, own_message_parts, sequence_of
from servease_appt.cache.stats import Observer

SILENT_FOR_S: Final = 1.5

Commands = Sequence[tuple[str | bytes, Sequence[Any]]]
"""Pairs of a key, which selects the node, and the command."""


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

    def get_node_from_key(self, key: str | bytes, replica: bool = False) -> ClusterNode:
        try:
            return super().get_node_from_key(key, replica)  # type: ignore[no-untyped-call,no-any-return]
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error


class Cluster:
    """A cluster client that is made at its first use, so that an application starts without its Redis.

    It delegates all other attributes to redis-py's RedisCluster, and raises its errors. Thread-safe.
    """

    def __init__(self, nodes: Sequence[tuple[str, int]], options: dict[str, Any]) -> None:
        self._nodes = nodes
        self._options = options
        self._lock = threading.Lock()
        self._made: Any = None

    def client(self) -> Any:
        """Return the shared client. The first call reads the topology from the first node that answers."""
        with self._lock:
            if self._made is None:
                self._made = self.new_client()
            return self._made

    def new_client(self) -> Any:
        """Return a new client with the current topology. The caller closes it."""
        nodes = [_node(host, port) for host, port in self._nodes]
        return _Client(startup_nodes=nodes, **self._options)

    def reload_topology(self) -> None:
        """Read the topology again before the next command.

        Calls that use the old client keep it; it is closed when the last of them is done.
        """
        with self._lock:
            self._made = None

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client(), name)


class ClusterL2(SingleServerL2):
    """`L2` on a cluster. An operation that needs several nodes calls them one after the other."""

    listens_where_it_reads = False

    def __init__(
        self, cluster: Cluster, keys: KeySpace, breaker: Breaker, observer: Observer | None = None
    ) -> None:
        self._cluster = cluster
        super().__init__(cluster, keys, breaker, observer)  # type: ignore[arg-type] # has the same commands

    def read(self, keys: Sequence[str]) -> tuple[list[bytes | None], int | None]:
        """See `L2.read`. Sends one pipeline to each node; a value of a wrong type counts as missing."""
        names = [*map(self.keys.data, keys), self.keys.sequence]
        answers = self._run("read", lambda: self._each([(name, ("GET", name)) for name in names]))
        *payloads, sequence = (None if isinstance(answer, ResponseError) else answer for answer in answers)
        return payloads, sequence_of(sequence)

    def acquire(
        self,
        keys: Sequence[str],
        token: str,
        lease_ms: int,
        *,
        take_over: dict[str, bytes] | None = None,
        refresh: bool = False,
    ) -> list[Lease]:
        """See `SingleServerL2.acquire`."""
        wanted = take_over or {}
        mode = "refresh" if refresh else "load"
        calls = [(self.keys.group(key), (token, lease_ms, mode, wanted.get(key, ""))) for key in keys]
        answers = self._run("acquire", lambda: self._scripts("acquire", calls))
        owner = token.encode()
        # A repeated call finds its own lease, which counts as granted.
        return [
            lease._replace(state=LeaseState.GRANTED) if lease.payload.rpartition(b"#")[2] == owner else lease
            for answer in answers
            for lease in read_leases(answer, owner, 1)
        ]

    def fill(self, fills: Sequence[Fill]) -> list[bool]:
        """See `SingleServerL2.fill`."""
        calls = [(self.keys.group(f.key), fill_args(f)) for f in fills]
        answers = self._run("fill", lambda: self._scripts("fill", calls))
        return [stored for answer in answers for stored in read_stored(answer, 1)]

    def release(self, leases: Sequence[tuple[str, bytes]]) -> None:
        """See `SingleServerL2.release`."""
        calls = [((self.keys.lease(key),), (token,)) for key, token in leases]
        self._run("release", lambda: self._scripts("release", calls))

    def discard(self, seen: Sequence[tuple[str, bytes]]) -> None:
        """See `SingleServerL2.discard`."""
        calls = [((self.keys.data(key),), (fingerprint(payload),)) for key, payload in seen]
        self._run("discard", lambda: self._scripts("discard", calls))

    def ttl_ms(self, keys: Sequence[str]) -> list[int]:
        """See `SingleServerL2.ttl_ms`."""
        names = list(map(self.keys.data, keys))
        return self._run("ttl_ms", lambda: self._checked([(name, ("PTTL", name)) for name in names]))

    def read_timed(self, keys: Sequence[str]) -> tuple[list[bytes | None], list[int], int | None]:
        """See `SingleServerL2.read_timed`."""
        calls = [((self.keys.data(key),), (1,)) for key in keys]
        answers = self._run("read", lambda: self._scripts("read_timed", calls))
        # The script can't read the sequence, which is in another slot.
        sequence = self._run(
            "read", lambda: self._checked([(self.keys.sequence, ("GET", self.keys.sequence))])
        )
        return [value for value, _ in answers], [left_ms for _, left_ms in answers], sequence_of(sequence[0])

    def write(
        self, writes: Sequence[Write], source: str, *, mode: WriteMode = WriteMode.ALWAYS, l1_ms: int = 0
    ) -> list[Written]:
        """See `SingleServerL2.write`. Each value is stored in a separate step."""
        calls = [(self.keys.group(w.key), (mode, l1_ms, "", "", "", w.payload, w.ttl_ms)) for w in writes]
        results = [Written(flag) for (flag,) in self._run("write", lambda: self._scripts("write", calls))]
        changed = [w.key for w, result in zip(writes, results, strict=True) if result is Written.CHANGED]
        if changed:
            self._announce([], *own_message_parts(Invalidation(keys=tuple(changed), source=source)))
        return results

    def increment(self, key: str, delta: int, source: str) -> bytes:
        """See `SingleServerL2.increment`."""
        calls = [(self.keys.group(key), (delta, "", "", ""))]
        ((number, *_),) = self._run("increment", lambda: self._scripts("increment", calls))
        self._announce([], *own_message_parts(Invalidation(keys=(key,), source=source)))
        return cast("bytes", number)

    def _leave_demoted_server(self) -> None:
        self._cluster.reload_topology()

    def _announce(self, names: Sequence[str], head: str, tail: str) -> Announced:
        """Delete in every slot, then increment the sequence and publish on its node.

        One DEL deletes all that belongs to a key: a fill between separate deletions of value and lease would stay.
        """
        size = len(self.keys.group(""))
        groups = [names[start : start + size] for start in range(0, len(names), size)]
        if groups:
            deletions = [(group[0], ("DEL", *group)) for group in groups]
            self._run("invalidate", lambda: self._checked(deletions), guarded=False)
        calls = [((self.keys.sequence,), (self.keys.channel, head, tail))]
        seen = self._seen()
        ((answer, _),) = self._run("invalidate", lambda: self._scripts("invalidate", calls), guarded=False)
        self._counted(seen, int(answer))
        return Announced(int(answer), None)  # a node counts only its own connections

    def _delete_matching(self, pattern: str, *, values: bool) -> None:
        own = f"{self.keys.prefix}:__".encode()
        found: Iterator[bytes] = self.client.scan_iter(match=pattern, count=SCAN_BATCH)
        wanted = (name for name in found if not (values and name.startswith(own)))
        while batch := list(islice(wanted, SCAN_BATCH)):
            self._checked([(name, ("UNLINK", name)) for name in batch])

    def _scripts(self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        source = script_source(name)
        sha = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis' own name for a script
        commands = [(keys[0], ("EVALSHA", sha, len(keys), *keys, *args)) for keys, args in calls]
        return self._checked(commands, source)

    def _checked(
        self, commands: Sequence[tuple[str | bytes, Sequence[Any]]], script: str | None = None
    ) -> list[Any]:
        answers = self._each(commands, script)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _each(
        self, commands: Sequence[tuple[str | bytes, Sequence[Any]]], script: str | None = None
    ) -> list[Any]:
        """Send each command to the node of its key, and return the answers in the order given.

        If a node is gone or no longer has a slot, this call fails and the next one reads the topology again.
        """
        answers: list[Any] = [None] * len(commands)
        try:
            cluster = self._cluster.client()
            by_node: dict[str, list[int]] = {}
            for number, (key, _) in enumerate(commands):
                by_node.setdefault(cluster.get_node_from_key(key).name, []).append(number)
            for node_name, numbers in by_node.items():
                node: Redis = cluster.get_redis_connection(cluster.get_node(node_name=node_name))
                got = _pipelined(node, [commands[number][1] for number in numbers], script)
                for number, answer in zip(numbers, got, strict=True):
                    answers[number] = answer
                    if isinstance(answer, RedisError) and _is_about_topology(answer):
                        raise answer
        except RedisError:
            self._cluster.reload_topology()
            raise
        return answers


def _pipelined(node: Redis, commands: Sequence[Sequence[Any]], script: str | None) -> list[Any]:
    def send(wanted: Sequence[Sequence[Any]]) -> list[Any]:
        pipeline: Any
        with node.pipeline(transaction=False) as pipeline:
            for command in wanted:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
            return answers

    answers = send(commands)
    unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown and script is not None:
        node.script_load(script)
        for number, answer in zip(unknown, send([commands[number] for number in unknown]), strict=True):
            answers[number] = answer
    return answers


def _node(host: str, port: int) -> ClusterNode:
    return ClusterNode(host, port)  # type: ignore[no-untyped-call]


def _is_about_topology(error: RedisError) -> bool:
    return str(error).startswith(("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN")) or type(
        error
    ).__name__ in ("MovedError", "AskError", "ClusterDownError", "TryAgainError", "MasterDownError")


class ClusterChannel:
    """The channel of a cluster: messages and heartbeats from the node of the sequence, tracking from all nodes.

    PUBLISH reaches every node of a cluster, so one subscription is enough. Each node sends tracking messages only
    for its own keys. A node that stops answering makes the whole channel fail, as a silent server does.
    """

    def __init__(self, cluster: Cluster, sequence: str, clock: Callable[[], float] = elapsed_s) -> None:
        client = cluster.new_client()
        main = client.get_node_from_key(sequence)
        self._clock = clock
        self._main = Channel(client.get_redis_connection(main))
        self._others: list[Channel] = []
        self._asked_at_s: dict[int, float] = {}
        try:
            for node in client.get_primaries():
                if node.name != main.name:
                    self._others.append(Channel(client.get_redis_connection(node)))
        except BaseException:
            self.close()
            raise
        finally:
            client.close()  # the channels have their own connections

    def send(self, *command: str | bytes) -> None:
        """Send to the node of the sequence; tracking commands and heartbeats go to all nodes."""
        self._main.send(*command)
        if command[0] == "CLIENT":
            for other in self._others:
                other.send(*command)
        elif command[0] == "GET":
            self._ping_others()

    def _ping_others(self) -> None:
        now = self._clock()
        for number, other in enumerate(self._others):
            if now - self._asked_at_s.setdefault(number, now) > SILENT_FOR_S:
                raise RedisTimeoutError("a node of the cluster does not answer")
            other.send("PING")

    def wait(self, wake: socket.socket, timeout_s: float) -> None:
        """See `Channel.wait`."""
        if not any(channel.has_frame() for channel in (self._main, *self._others)):
            self._main.wait(wake, timeout_s, [other.link for other in self._others])

    def receive(self) -> tuple[bool, Frame]:
        """See `Channel.receive`. Answers of the other nodes only prove that they are alive."""
        there, frame = self._main.receive()
        if there:
            return True, frame
        for number, other in enumerate(self._others):
            there, frame = other.receive()
            while there and isinstance(frame, Reply):
                self._asked_at_s.pop(number, None)
                there, frame = other.receive()
            if there:
                return True, frame
        return False, None

    def close(self) -> None:
        """Close all connections."""
        for channel in (self._main, *self._others):
            channel.close()
