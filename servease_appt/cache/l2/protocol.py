"""The interface of the second tier, which `single_server.py` and `cluster.py` implement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol

from redis import Redis

from servease_appt.cache.breaker import Breaker
from servease_appt.cache.channel import PushChannel
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.messages import Invalidation
from servease_appt.cache.refusals import Refusals
from servease_appt.cache.stats import Observer

EMPTIED_NOTED_S = 3600
"""Seconds for which the note about a deletion of all values stays, from the begin of the deletion."""


class LeaseState(StrEnum):
    """The state of a key in the answer of `L2.acquire`."""

    VALUE = "value"
    ABSENT = "absent"
    GRANTED = "granted"
    HELD = "held"
    UNAVAILABLE = "unavailable"
    """The key's node does not answer, and the others do: load without a lease."""


class Lease(NamedTuple):
    """The answer for one key, with the stale copy if there is one.

    `payload` is the value or the lease. A granted lease is passed to `fill` and `release`; a held lease belongs to
    another caller.
    """

    state: LeaseState
    payload: bytes = b""
    stale: bytes | None = None


class Fill(NamedTuple):
    """One value to store under the lease `token`; `payload` is None if the source has no value."""

    key: str
    token: bytes
    payload: bytes | None
    ttl_ms: int
    stale_ms: int


class Write(NamedTuple):
    """One value to store; `ttl_ms` 0: no expiry."""

    key: str
    payload: bytes
    ttl_ms: int


class WriteMode(StrEnum):
    """The condition under which `L2.write` stores a value."""

    ALWAYS = "always"
    IF_ABSENT = "if_absent"
    IF_SAME = "if_same"
    """Only set the TTL, and only if the same bytes are stored."""


class Written(IntEnum):
    """The result of `L2.write` for one value."""

    REFUSED = 0
    WAS_THERE = 1
    """The same bytes were stored: their TTL was set, and no message was published."""
    CHANGED = 2


class Announced(NamedTuple):
    """An invalidation that the server has accepted."""

    sequence: int
    listeners: int | None
    """The number of connections to which the message was sent; None: unknown, as in a cluster."""


class SequenceWatch(Protocol):
    """Compares the sequence with the highest number seen (see `recovery.py`). Thread-safe."""

    l2_is_old: bool
    """True if the server has lost invalidations, so that its values must not be used."""

    def highest_sequence_seen(self) -> int:
        """Return the highest number seen; 0: none. Take it before a command is sent."""

    def compare(self, seen: int, sequence: int | None) -> None:
        """Compare `seen` with the sequence in the command's answer; None: no sequence."""

    def observe(self, seen: int, sequence: int | None) -> None:
        """Compare as `compare` does, after a command that only reads the sequence."""

    def acknowledge(self, sequence: int) -> None:
        """Note the number that the server gave to an invalidation of ours."""

    def replicas(self) -> int | None:
        """Return the number of replicas that the server last reported; None: unknown."""


class Backend(ABC):
    """Something else than a Redis server behind the cache, such as `servease_appt.cache.testing.MemoryServer`."""

    @abstractmethod
    def make_l2(self, keys: KeySpace, breaker: Breaker, observer: Observer | None) -> L2:
        """Return L2 for the process of one cache."""

    @abstractmethod
    def open_channel(self, keys: KeySpace, clock: Callable[[], float]) -> PushChannel:
        """Return a new connection for a listener."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""


class L2(Protocol):
    """The operations of L2. Thread-safe. Every method raises L2Unavailable; writes may raise L2RefusedWrite."""

    client: Redis
    """The redis-py client, for other uses: one-time links, the doctor. It raises redis-py's errors."""
    watch: SequenceWatch | None
    """Called by every command that reads or increments the sequence; None: nothing is compared."""
    on_demoted: Callable[[], None] | None
    """Called when the server turns out to be a replica, which refuses writes."""
    unheard_nodes: set[str]
    """Nodes of a cluster whose tracking messages do not arrive, so that L1 may keep their values for a short time
    only. Empty for a single server."""
    old_nodes: set[str]
    """Nodes of a cluster that have lost invalidations. Their values are not used until `empty_node`."""
    refusals: Refusals
    """The operations that the server refuses at present."""
    listens_where_it_reads: bool
    """True if the listener's connection can read every key, so that it can compare values in its own order."""

    def read(self, keys: Sequence[str]) -> tuple[list[bytes | None], int | None]:
        """Return the stored bytes in the order of `keys`, and the sequence number if there is one."""

    def acquire(
        self,
        keys: Sequence[str],
        token: str,
        lease_ms: int,
        *,
        take_over: dict[str, bytes] | None = None,
        refresh: bool = False,
    ) -> list[Lease]:
        """Request the lease of each key. Returns the value or absence instead if L2 has one.

        `take_over` has, by key, leases to take over because their holders did not finish. With `refresh`, the
        lease is granted although L2 has a value.
        """

    def fill(self, fills: Sequence[Fill]) -> list[bool]:
        """Store values whose leases still exist. Returns True for each stored value, False for each refused."""

    def release(self, leases: Sequence[tuple[str, bytes]]) -> None:
        """Release leases, given as pairs of key and token, that are still held."""

    def discard(self, seen: Sequence[tuple[str, bytes]]) -> None:
        """Delete bytes that can't be decoded, given as pairs of key and bytes, unless they were replaced."""

    def ttl_ms(self, keys: Sequence[str]) -> list[int]:
        """Return the remaining TTL of each key in milliseconds; negative if it is missing or has no expiry."""

    def invalidate(self, keys: Sequence[str], source: str) -> Announced:
        """Delete keys with all that belongs to them and publish that, atomically.

        Tried even while the breaker is open: an invalidation is worth the wait.
        """

    def read_timed(self, keys: Sequence[str]) -> tuple[list[bytes | None], list[int], int | None]:
        """Return the same as `read`, with the remaining TTLs in milliseconds (-1: no expiry) in between."""

    def write(
        self, writes: Sequence[Write], source: str, *, mode: WriteMode = WriteMode.ALWAYS, l1_ms: int = 0
    ) -> list[Written]:
        """Store values in one step, and publish their keys unless the same bytes were stored.

        Args:
            writes: the values.
            source: the identity of this worker, for the message.
            mode: the condition for storing.
            l1_ms: the longest lifetime in any L1, in milliseconds; a TTL shortened below it is published, too.
        """

    def increment(self, key: str, delta: int, source: str) -> bytes:
        """Add `delta` to a number and publish that. Returns the new bytes.

        Raises:
            L2RefusedWrite: also if the value is not a 64-bit integer.
        """

    def carry_out(self, request: Invalidation, source: str, *, if_at: int | None = None) -> int | None:
        """Delete and publish what another client requested by a plain PUBLISH. Returns the sequence.

        With `if_at`, nothing is done and None is returned if the server's sequence is another number: the caller
        has not received yet what was announced last. For a pattern the start is published, too, and the last
        message has its sequence number.
        """

    def announce_start(self, pattern: str, source: str, *, if_at: int | None = None) -> int | None:
        """Publish that the scans for a pattern begin, or go on. Returns as `carry_out` does."""

    def invalidate_matching(self, pattern: str, source: str) -> int:
        """Delete all keys that match a glob pattern, then publish that. Returns the sequence."""

    def is_emptied(self, history: str, within_s: float) -> bool:
        """Return True if all values were deleted while the server's replication id was `history`.

        The scans must have begun within the last `within_s` seconds.
        """

    def mark_emptied(self, history: str, began_s_ago: float) -> None:
        """Note that all values were deleted, by scans that began while the server's id was `history`."""

    def scan(self, pattern: str) -> Iterator[str]:
        """Yield, by SCAN, the keys of values in L2 that match a glob pattern, without the prefix."""

    def node_of(self, key: str) -> str:
        """Return the name of the node that serves a key; empty for a single server. Sends nothing."""

    def empty_node(self, name: str, source: str) -> None:
        """Delete all values on a node of a cluster, publish that, and use the node again."""

    def ping(self) -> None:
        """Check that L2 answers."""
