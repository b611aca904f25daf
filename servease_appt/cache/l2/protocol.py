"""What the cache needs of its second tier; `single_server.py` and `cluster.py` provide it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol

from redis import Redis


class LeaseState(StrEnum):
    """What `L2.acquire` says of a key."""

    VALUE = "value"
    ABSENT = "absent"
    GRANTED = "granted"
    HELD = "held"


class Lease(NamedTuple):
    """The answer for one key, with the stale copy if there is one.

    `payload` is the value, or the lease: the caller's own, to hand to `fill` and `release`, or the one that
    another holds.
    """

    state: LeaseState
    payload: bytes = b""
    stale: bytes | None = None


class Fill(NamedTuple):
    """One value to store under the lease `token`; `payload` is None where the source has none."""

    key: str
    token: bytes
    payload: bytes | None
    ttl_ms: int
    stale_ms: int


class Write(NamedTuple):
    """One value to store; `ttl_ms` 0: without an end."""

    key: str
    payload: bytes
    ttl_ms: int


class WriteMode(StrEnum):
    """When `L2.write` stores a value."""

    ALWAYS = "always"
    IF_ABSENT = "if_absent"
    IF_SAME = "if_same"
    """Only its life is set, and only if the same bytes are there."""


class Written(IntEnum):
    """What `L2.write` did with a value."""

    REFUSED = 0
    WAS_THERE = 1
    """The same bytes were there: their life was set, and nobody was told."""
    CHANGED = 2


class SequenceWatch(Protocol):
    """Compares the sequence with what was seen before (see `recovery.py`). Thread-safe."""

    l2_is_old: bool
    """Whether the server has lost invalidations, so that nothing that it holds may be used."""

    def highest_sequence_seen(self) -> int:
        """Return the highest number seen, to be taken before a command is sent; 0: none."""

    def compare(self, seen: int, sequence: int | None) -> None:
        """Compare it with the sequence that the command's answer tells of; None: there is none."""

    def acknowledge(self, sequence: int) -> None:
        """Note the number that the server gave to an invalidation of ours."""


class L2(Protocol):
    """The operations of L2. Thread-safe. Every method raises L2Unavailable; writes may raise L2RefusedWrite."""

    client: Redis
    """redis-py's client, for what is not the cache's: one-time links, doctors. It raises redis-py's errors."""
    watch: SequenceWatch | None
    """Is told of the sequence by every command that reads it or counts it up."""
    on_demoted: Callable[[], None] | None
    """Called when the server turns out to be a replica, which takes no writes."""
    listens_where_it_reads: bool
    """Whether the listener's connection sees every key, so that it can compare values in its own order."""

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
        """Ask for the lease of each key, or get what makes it needless.

        `take_over` names for a key the lease whose holder was waited for in vain. With `refresh` the value is
        there and the lease is wanted all the same.
        """

    def fill(self, fills: Sequence[Fill]) -> list[bool]:
        """Store values whose lease still stands; False for each that was refused."""

    def release(self, leases: Sequence[tuple[str, bytes]]) -> None:
        """Give back leases, as pairs of key and token, that are still held."""

    def discard(self, seen: Sequence[tuple[str, bytes]]) -> None:
        """Delete stored bytes that can't be read, as pairs of key and the bytes seen."""

    def ttl_ms(self, keys: Sequence[str]) -> list[int]:
        """Return what is left of each key's life; negative where it is gone or has no end."""

    def invalidate(self, keys: Sequence[str], source: str) -> int:
        """Delete keys with all that belongs to them and tell every worker, atomically. Returns the sequence.

        Tried even while the breaker is open: an invalidation matters more than the time it may cost.
        """

    def read_timed(self, keys: Sequence[str]) -> tuple[list[bytes | None], list[int], int | None]:
        """As `read`, with what is left of each value's life in ms (-1: no end) between the two."""

    def write(
        self, writes: Sequence[Write], source: str, *, mode: WriteMode = WriteMode.ALWAYS, l1_ms: int = 0
    ) -> list[Written]:
        """Store values in one step, and tell every worker unless the same bytes were there.

        Args:
            writes: the values.
            source: who tells the workers.
            mode: which of them to store.
            l1_ms: the longest that any L1 holds a value; a life that is cut shorter than that is told, too.
        """

    def increment(self, key: str, delta: int, source: str) -> bytes:
        """Add to a number and tell every worker. Returns the new bytes.

        Raises:
            L2RefusedWrite: also for what is no number of 64 bits.
        """

    def invalidate_matching(self, pattern: str, source: str, *, announce_start: bool = False) -> int:
        """Delete all keys that match a glob pattern, then tell every worker. Returns the sequence.

        With `announce_start` workers are told of the start, too, and which number it had.
        """

    def scan(self, pattern: str) -> Iterator[str]:
        """Yield the keys with a value in L2 that match a glob pattern, by SCAN, without the prefix."""

    def ping(self) -> None:
        """See whether L2 answers."""
