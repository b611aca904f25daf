"""The public methods that read and store without a loader, for programs that compute values by themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from servease_appt.cache.direct import Fence
from servease_appt.cache.process import Process

V = TypeVar("V")


class Stores(ABC, Generic[V]):
    """Reads and stores without a loader. A base of `TwoTierCache`."""

    _process: Process[V]

    @abstractmethod
    def start(self) -> None:
        """See `TwoTierCache`."""

    def peek_many(self, keys: Sequence[str], *, fenced: bool = True) -> tuple[dict[str, V], dict[str, Fence]]:
        """Return the cached values, and for each miss the fence that `fill` needs. Thread-safe.

        A fence is the lease of the key, even if another caller holds the lease. As long as the lease exists, the
        key has not been invalidated.

        Args:
            keys: the keys, without duplicates.
            fenced: False to take no fences, which saves a round trip.

        Returns:
            The values that were found, and the fences of the missing keys. No fences while Redis does not answer.

        Raises:
            ValueError: a key belongs to no codec.
            RuntimeError: the cache is closed.
        """
        self.start()
        return self._process.reader.peek(keys, fenced=fenced)

    def refresh_fence(self, key: str) -> Fence | None:
        """Return the fence with which `fill` replaces a cached value before it expires. Thread-safe.

        Returns:
            None if another caller in any worker has it, or if Redis does not answer.
        """
        fence = self._process.direct.take_fences((key,), refresh=True)[1].get(key)
        return fence if fence is not None and fence.granted else None

    def fill(self, key: str, value: V, fence: Fence, ttl_s: float | None) -> bool:
        """Store a value that was computed after a miss. See `fill_many`. Returns True if it was stored."""
        return bool(self.fill_many({key: (value, fence)}, ttl_s))

    def fill_many(self, fills: Mapping[str, tuple[V, Fence]], ttl_s: float | None) -> list[str]:
        """Store values that were computed after misses, unless their keys were invalidated since. Thread-safe.

        Args:
            fills: by key, the value and the fence that `peek_many` returned.
            ttl_s: TTL of the values in seconds; None: no expiry.

        Returns:
            The keys that were stored; none while Redis does not answer.
        """
        return self._process.direct.fill_many(fills, ttl_s)

    def release(self, fences: Mapping[str, Fence]) -> None:
        """Release fences that will not be used, so that the next miss of each key is granted the lease.

        Args:
            fences: by key, as `peek_many` returned them. Fences that were not granted to that call are ignored.
        """
        self._process.direct.release(fences)

    def write_many(self, values: Mapping[str, V], ttl_s: float | None) -> bool:
        """Store values in L2 unconditionally, and drop them from every worker's L1.

        If L2 already holds the same bytes, only the TTL is set, and every L1 keeps the value.

        Args:
            values: by key.
            ttl_s: TTL of the values in seconds; None: no expiry.

        Returns:
            False if Redis did not answer or refused the write.
        """
        return self._process.direct.write_many(values, ttl_s)

    def renew_many(self, values: Mapping[str, V], ttl_s: float | None) -> list[str]:
        """Set the TTL of values that L2 still holds unchanged. Returns the keys of these values."""
        return self._process.direct.renew_many(values, ttl_s)

    def add(self, key: str, value: V, ttl_s: float | None) -> bool:
        """Store a value if L2 holds none, atomically. Returns True if stored; False if not, or in an outage."""
        return self._process.direct.add(key, value, ttl_s)

    def increment(self, key: str, delta: int) -> int | None:
        """Add `delta` to a number in L2, atomically, and drop it from every worker's L1.

        A missing number counts as 0 and is stored without expiry.

        Returns:
            The new number; None if Redis does not answer or refuses writes.

        Raises:
            ValueError: the value is not a 64-bit integer in decimal digits, or the sum does not fit into one.
        """
        return self._process.direct.increment(key, delta)
