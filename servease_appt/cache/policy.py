"""Lifetimes, deadlines and limits of the cache."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """Lifetimes and deadlines in seconds, and the limits of L1. Immutable.

    Raises:
        ValueError: a field is out of range; the text names it.

    Example:
        >>> CachePolicy(ttl_s=60, l1_ttl_s=5).lease_ms
        2500
    """

    ttl_s: float = 300.0
    """The longest TTL of a value in L2; each fill draws from `[(1 - jitter) * ttl_s, ttl_s]`."""
    l1_ttl_s: float = 10.0
    """The longest time for which a worker serves a value from L1, whatever fails; 0 turns L1 off."""
    l1_maxsize: int = 10_000
    """The maximum number of L1 entries in one process."""
    l1_max_bytes: int = 64 * 1024**2
    """The maximum total size of L1 entries in one process, in bytes as stored in L2."""
    l1_max_value_bytes: int = 1024**2
    """The maximum size of one L1 entry in bytes; longer values are not stored in L1."""
    l1_within_l2: bool = False
    """True if L1 must not hold a value after its expiry in L2. Each read of L2 then also reads the TTLs."""
    tracking: bool = True
    """False if Redis must not report every change of a value to every worker, which costs it time for each worker
    and fill. Invalidations reach all workers as before. But a value that another client changes without an
    invalidation stays in L1 until it expires there."""
    negative_ttl_s: float = 60.0
    """The TTL of the answer that the source has no value; 0: not cached."""
    stale_ttl_s: float = 3600.0
    """The time after its expiry during which a value may be served as a stale copy; 0: never."""
    load_timeout_s: float = 2.0
    """The hard deadline of one load, and of all loads of one call together."""
    soft_timeout_s: float = 0.5
    """The time for which a call waits for a load if it has a stale copy."""
    jitter: float = 0.1
    """The random part of `ttl_s`, from 0 to 0.5, so that values filled together do not expire together."""
    refresh_at: float = 0.75
    """The part of `ttl_s` after which a hit reloads the value in the background; above 0, below 1 - jitter."""
    max_loads: int = 64
    """The maximum number of parallel loads of one codec in one process, each on its own thread."""

    def __post_init__(self) -> None:
        for name in (
            "ttl_s",
            "load_timeout_s",
            "soft_timeout_s",
            "l1_maxsize",
            "l1_max_bytes",
            "l1_max_value_bytes",
            "max_loads",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)!r}")
        for name in ("l1_ttl_s", "negative_ttl_s", "stale_ttl_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)!r}")
        if not 0 <= self.jitter <= 0.5 or not 0 < self.refresh_at < 1 - self.jitter:
            raise ValueError(
                "jitter must be from 0 to 0.5 and refresh_at below 1 - jitter,"
                f" not {self.jitter} and {self.refresh_at}"
            )

    def draw_ttl_ms(self) -> int:
        """Return a random TTL for one fill in L2, in milliseconds, at most `ttl_s`."""
        return max(1, int(self.ttl_s * 1000 * (1 - self.jitter * random.random())))

    @property
    def refresh_below_s(self) -> float:
        """The remaining TTL in seconds below which a hit reloads the value."""
        return self.ttl_s * (1 - self.refresh_at)

    @property
    def lease_ms(self) -> int:
        """The TTL of a lease in milliseconds: half a second more than the longest load."""
        return int((self.load_timeout_s + 0.5) * 1000)

    @property
    def patience_s(self) -> float:
        """Seconds to wait for the holder of a lease before another worker takes the lease over."""
        return self.load_timeout_s / 4
