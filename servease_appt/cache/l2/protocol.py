"""What the cache needs of its second tier; `single_server.py` and `cluster.py` provide it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from redis import Redis


class LeaseState(StrEnum):
    """What `L2.acquire` says of a key."""

    VALUE = "value"
    ABSENT = "absent"
    GRANTED = "granted"
    HELD = "held"


class Lease(NamedTuple):
    """The answer for one key: the value, or whose lease it is, with the stale copy if there is one."""

    state: LeaseState
    payload: bytes = b""
    stale: bytes | None = None


class Fill(NamedTuple):
    """One value to store under the lease `token`; `payload` is empty where the source has none."""

    key: str
    token: str
    payload: bytes
    ttl_ms: int
    stale_ms: int


class L2(Protocol):
    """The operations of L2. Thread-safe. Every method raises L2Unavailable; writes may raise L2RefusedWrite."""

    client: Redis
    """redis-py's client, for what is not the cache's: one-time links, doctors. It raises redis-py's errors."""
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
        take_over: dict[str, str] | None = None,
        refresh: bool = False,
    ) -> list[Lease]:
        """Ask for the lease of each key, or get what makes it needless.

        `take_over` names for a key the holder that was waited for in vain. With `refresh` the value is there and
        the lease is wanted all the same.
        """

    def fill(self, fills: Sequence[Fill]) -> list[bool]:
        """Store values whose lease still stands; False for each that was refused."""

    def release(self, leases: Sequence[tuple[str, str]]) -> None:
        """Give back leases, as pairs of key and token, that are still held."""

    def discard(self, seen: Sequence[tuple[str, bytes]]) -> None:
        """Delete stored bytes that can't be read, as pairs of key and the bytes seen."""

    def ttl_ms(self, keys: Sequence[str]) -> list[int]:
        """Return what is left of each key's life; negative where it is gone or has no end."""

    def invalidate(self, keys: Sequence[str], source: str) -> int:
        """Delete keys with all that belongs to them and tell every worker, atomically. Returns the sequence.

        Tried even while the breaker is open: an invalidation matters more than the time it may cost.
        """

    def write(self, key: str, payload: bytes, ttl_ms: int, source: str) -> int:
        """Replace one value and tell every worker. Returns the sequence."""

    def invalidate_matching(self, pattern: str, source: str) -> int:
        """Delete all keys that match a glob pattern, then tell every worker. Returns the sequence."""

    def scan(self, pattern: str) -> Iterator[str]:
        """Yield the keys with a value in L2 that match a glob pattern, by SCAN, without the prefix."""

    def ping(self) -> None:
        """See whether L2 answers."""
