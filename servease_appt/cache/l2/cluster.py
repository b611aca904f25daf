"""L2 on a Redis Cluster: the same operations, on all the nodes that hold some of the keys at the same time.

A key's value, lease, absence and stale copy share its slot (see `cluster_keys.py`), so each script runs on one
node. The sequence is in another slot. An invalidation therefore deletes in every slot first and announces last,
which is the order that matters; tracking messages cover a crash in between. A cluster has only database 0.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, Final, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, TryAgainError

from servease_appt.cache.breaker import Breaker
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.cluster_client import Cluster
from servease_appt.cache.l2.cluster_keys import ClusterKeySpace
from servease_appt.cache.l2.exchange import Command, exchange, read_many
from servease_appt.cache.l2.nodes import Node
from servease_appt.cache.l2.protocol import Announced, Fill, Lease, LeaseState, Write, WriteMode, Written
from servease_appt.cache.l2.script_calls import (
    fill_args,
    fingerprint,
    read_leases,
    read_stored,
    script_source,
)
from servease_appt.cache.l2.single_server import SCAN_BATCH, SingleServerL2
from servease_appt.cache.messages import Invalidation, own_message_parts, sequence_of
from servease_appt.cache.stats import Observer

SLOW_S: Final = 0.2
"""Seconds for a deletion and its message, after which both are repeated. A promotion takes longer than this."""
MOST_ATTEMPTS: Final = 3


class ClusterL2(SingleServerL2):
    """`L2` on a cluster. A node that does not answer affects the keys on it, and no others."""

    listens_where_it_reads = False

    def __init__(
        self, cluster: Cluster, keys: KeySpace, breaker: Breaker, observer: Observer | None = None
    ) -> None:
        super().__init__(cluster, ClusterKeySpace(keys.prefix), breaker, observer)  # type: ignore[arg-type] # has the same commands
        self._nodes = cluster.nodes
        self.unheard_nodes: set[str] = set()
        self.old_nodes: set[str] = set()

    def node_of(self, key: str) -> str:
        """See `L2.node_of`."""
        node = self._nodes.of(self.keys.data(key))
        return "" if node is None else node.name

    def read(self, keys: Sequence[str]) -> tuple[list[bytes | None], int | None]:
        """See `L2.read`. A value of a wrong type, or on a node that does not answer, counts as missing."""
        prefix = self.keys.data("")
        names = [prefix + key for key in keys]
        names.append(self.keys.sequence)
        seen = self._seen()
        *payloads, sequence = self._run(
            "read",
            lambda: _unless_all_failed(read_many(self._nodes, names, without=self.old_nodes), len(keys)),
        )
        found = [None if isinstance(payload, Exception) else payload for payload in payloads]
        return found, _known_sequence(seen, sequence)

    def read_timed(self, keys: Sequence[str]) -> tuple[list[bytes | None], list[int], int | None]:
        """See `SingleServerL2.read_timed`."""
        calls = [((self.keys.data(key),), (1,)) for key in keys]
        seen = self._seen()
        *answers, sequence = self._run(
            "read",
            lambda: _unless_all_failed(self._scripts("read_timed", calls, with_sequence=True), len(keys)),
        )
        timed = [(None, -2) if isinstance(answer, Exception) else answer for answer in answers]
        return [value for value, _ in timed], [left for _, left in timed], _known_sequence(seen, sequence)

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
        seen = self._seen()
        *answers, sequence = self._run(
            "acquire",
            lambda: _unless_all_failed(self._scripts("acquire", calls, with_sequence=True), len(keys)),
        )
        self._compare(seen, _known_sequence(seen, sequence))
        if self.watch is not None and self.watch.l2_is_old:
            raise L2Unavailable("the cluster has lost invalidations")
        return [_lease(answer, token) for answer in answers]

    def fill(self, fills: Sequence[Fill]) -> list[bool]:
        """See `SingleServerL2.fill`. A value whose node does not answer counts as refused, unless none does."""
        calls = [(self.keys.group(f.key), fill_args(f)) for f in fills]
        answers = self._run("fill", lambda: _unless_all_failed(self._scripts("fill", calls), len(fills)))
        return [not isinstance(answer, Exception) and read_stored(answer, 1) == [True] for answer in answers]

    def release(self, leases: Sequence[tuple[str, bytes]]) -> None:
        """See `SingleServerL2.release`."""
        calls = [((self.keys.lease(key),), (token,)) for key, token in leases]
        self._run("release", lambda: _checked(self._scripts("release", calls)))

    def discard(self, seen: Sequence[tuple[str, bytes]]) -> None:
        """See `SingleServerL2.discard`."""
        calls = [((self.keys.data(key),), (fingerprint(payload),)) for key, payload in seen]
        self._run("discard", lambda: _checked(self._scripts("discard", calls)))

    def ttl_ms(self, keys: Sequence[str]) -> list[int]:
        """See `SingleServerL2.ttl_ms`."""
        names = list(map(self.keys.data, keys))
        answers = self._run("ttl_ms", lambda: self._each([(name, ("PTTL", name)) for name in names]))
        return [-2 if isinstance(answer, Exception) else answer for answer in answers]

    def write(
        self, writes: Sequence[Write], source: str, *, mode: WriteMode = WriteMode.ALWAYS, l1_ms: int = 0
    ) -> list[Written]:
        """See `SingleServerL2.write`. Each value is stored in a separate step."""
        calls = [(self.keys.group(w.key), (mode, l1_ms, "", "", "", w.payload, w.ttl_ms)) for w in writes]
        began_s = time.monotonic()
        answers = self._run("write", lambda: self._scripts("write", calls))
        changed = [w.key for w, answer in zip(writes, answers, strict=True) if answer == [Written.CHANGED]]
        if changed:
            self._announce([], *own_message_parts(Invalidation(keys=tuple(changed), source=source)))
            if time.monotonic() - began_s > SLOW_S:  # see `_announce`: the values may be lost
                self.invalidate(changed, source)
        return [Written(flag) for (flag,) in self._run("write", lambda: _checked(answers))]

    def increment(self, key: str, delta: int, source: str) -> bytes:
        """See `SingleServerL2.increment`."""
        calls = [(self.keys.group(key), (delta, "", "", ""))]
        ((number, *_),) = self._run("increment", lambda: _checked(self._scripts("increment", calls)))
        self._announce([], *own_message_parts(Invalidation(keys=(key,), source=source)))
        return cast("bytes", number)

    def scan(self, pattern: str) -> Iterator[str]:
        """See `L2.scan`."""
        for node in self._nodes.primaries():
            yield from self._keys_on(node.client, pattern)

    def ping(self) -> None:
        """See `L2.ping`. It is enough that one node answers."""

        def any_answers() -> None:
            if not any([node.probe() for node in self._nodes.primaries()]):  # noqa: C419 - every one is asked
                raise RedisConnectionError("no node of the cluster answers")

        self._run("ping", any_answers, guarded=False)

    def empty_node(self, name: str, source: str) -> None:
        """See `L2.empty_node`."""
        nodes = self._run("invalidate_matching", self._nodes.primaries, guarded=False)
        node = next((node for node in nodes if node.name == name), None)
        if node is not None:
            self._run("invalidate_matching", lambda: self._empty(node), guarded=False)
            self._announce([], *own_message_parts(Invalidation(pattern="*", source=source)))
        self.old_nodes.discard(name)

    def _empty(self, node: Node) -> None:
        keys = self.keys.patterns
        for name in (keys.lease, keys.data, keys.stale_copy, keys.absent):
            self._delete_on(node, name("*"), values=name == keys.data)

    def _leave_demoted_server(self) -> None:
        self._nodes.refresh_soon()

    def _failed(self) -> None:
        """Open the breaker of the whole cluster only if no node answers: each node has its own."""
        if self._nodes.all_down():
            self.breaker.failed()

    def _announce(
        self,
        names: Sequence[str],
        head: str,
        tail: str,
        *,
        if_at: int | None = None,  # noqa: ARG002 - messages have no order here that could be compared
    ) -> Announced:
        """Delete in every slot, then increment the sequence and publish on its node.

        One DEL deletes all that belongs to a key: a fill between separate deletions of value and lease would stay.

        A listener takes a promoted primary for complete if it has heard of no invalidation since the old primary's
        last report. So the message must follow the deletion before a replica can have been promoted. If it took
        longer, the deletion may have been lost with the old primary, and both are repeated.
        """
        size = len(self.keys.group(""))
        groups = [names[start : start + size] for start in range(0, len(names), size)]
        for _ in range(MOST_ATTEMPTS):
            began_s = time.monotonic()
            if groups:
                self._run("invalidate", lambda: self._delete(groups), guarded=False)
            sequence = self._publish(head, tail)
            if not groups or time.monotonic() - began_s <= SLOW_S:
                break
            self._run("invalidate", self._nodes.refresh, guarded=False)
        return Announced(sequence, None)  # a node counts only its own connections

    def _publish(self, head: str, tail: str) -> int:
        calls = [((self.keys.sequence,), (self.keys.channel, head, tail))]
        seen = self._seen()
        ((answer, _),) = self._run(
            "invalidate", lambda: _checked(self._scripts("invalidate", calls, without=None)), guarded=False
        )
        self._counted(seen, int(answer))
        return int(answer)

    def _delete(self, groups: Sequence[Sequence[str]]) -> None:
        """Delete groups of names. Of a slot that is being moved, its two nodes have some names each.

        A DEL of several names is then refused. The leases are deleted first, so that no fill comes in between.
        """
        answers = self._each([(group[0], ("DEL", *group)) for group in groups], without=None)
        moving = [
            group for group, answer in zip(groups, answers, strict=True) if isinstance(answer, TryAgainError)
        ]
        _checked([answer for answer in answers if not isinstance(answer, TryAgainError)])
        for place in (1, 0, 2, 3) if moving else ():
            single = [(group[place], ("DEL", group[place])) for group in moving]
            _checked(self._each(single, without=None))

    def _delete_all_matching(self, message: Invalidation) -> int:
        """Delete and publish as on a single server, again if a node was replaced meanwhile; see `_announce`."""
        for _ in range(MOST_ATTEMPTS):
            before = set(self._run("invalidate_matching", self._nodes.primaries, guarded=False))
            sequence = super()._delete_all_matching(message)
            self._run("invalidate_matching", self._nodes.refresh, guarded=False)
            if before == set(self._nodes.known_primaries()):
                break
        return sequence

    def _delete_matching(self, pattern: str, *, values: bool) -> None:
        """Delete matching keys on every node that answers, then raise the first error."""
        errors: list[RedisError] = []
        for node in self._nodes.primaries():
            try:
                self._delete_on(node, pattern, values=values)
            except RedisError as error:
                errors.append(error)
        _checked(errors)

    def _delete_on(self, node: Node, pattern: str, *, values: bool) -> None:
        names = self._names_on(node.client, pattern, values=values)
        while batch := list(islice(names, SCAN_BATCH)):
            _checked(self._each([(name, ("UNLINK", name)) for name in batch], without=None))

    def _scripts(
        self,
        name: str,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        *,
        with_sequence: bool = False,
        without: Collection[str] | None = (),
    ) -> list[Any]:
        """Run a script for each call; with `with_sequence`, the last answer is the sequence."""
        source = script_source(name)
        sha = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis' own name for a script
        commands: list[Command] = [
            (keys[0], ("EVALSHA", sha, len(keys), *keys, *args)) for keys, args in calls
        ]
        if with_sequence:
            commands.append((self.keys.sequence, ("GET", self.keys.sequence)))
        return self._each(commands, source, without=without)

    def _each(
        self,
        commands: Sequence[Command],
        script: str | None = None,
        *,
        without: Collection[str] | None = (),
    ) -> list[Any]:
        """Send each command to the node of its key; a failure is an answer.

        A node that has lost invalidations is left out until it is empty, except where `without` is None.
        """
        left_out = None if without is None else self.old_nodes
        return exchange(self._nodes, commands, script=script, without=left_out)


def _checked(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _unless_all_failed(answers: list[Any], count: int) -> list[Any]:
    """Return the answers; if the first `count`, which are about values, are all failures, raise the first."""
    if count and all(isinstance(answer, Exception) for answer in answers[:count]):
        raise answers[0]
    return answers


def _lease(answer: Any, token: str) -> Lease:
    if isinstance(answer, Exception):
        return Lease(LeaseState.UNAVAILABLE)
    owner = token.encode()
    (lease,) = read_leases(answer, owner, 1)
    # A repeated call finds its own lease, which counts as granted.
    own = lease.payload.rpartition(b"#")[2] == owner
    return lease._replace(state=LeaseState.GRANTED) if own and lease.state is LeaseState.HELD else lease


def _known_sequence(seen: int, answer: object) -> int | None:
    """Return the sequence; if its node did not answer, the highest number seen, since nothing else is known."""
    return seen or None if isinstance(answer, Exception) else sequence_of(answer)
