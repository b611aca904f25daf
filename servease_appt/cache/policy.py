"""How long things live and how long one waits for them."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """Lifetimes and deadlines, all in seconds. Immutable.

    Raises:
        ValueError: a field is out of its range; the text names it.

    Example:
        >>> CachePolicy(ttl_s=60, l1_ttl_s=5).lease_ms
        2500
    """

    ttl_s: float = 300.0
    """The longest a value lives in L2; each fill draws from `[(1 - jitter) * ttl_s, ttl_s]`."""
    l1_ttl_s: float = 10.0
    """The longest a worker may serve a value from L1, whatever fails; 0 turns L1 off."""
    l1_maxsize: int = 10_000
    """Entries of L1 in one process."""
    l1_max_bytes: int = 64 * 1024**2
    """What the entries of L1 in one process may take together, in bytes as they lie in L2."""
    l1_max_value_bytes: int = 1024**2
    """Longer values stay out of L1."""
    l1_within_l2: bool = False
    """Whether L1 never holds a value past its end in L2. Each read of L2 then asks for lifetimes, too."""
    negative_ttl_s: float = 60.0
    """How long it is remembered that the source has no value; 0: not at all."""
    stale_ttl_s: float = 3600.0
    """How long past its expiry the stale copy may stand in; 0: never."""
    load_timeout_s: float = 2.0
    """The hard deadline: for one load, and for all the loads of one call."""
    soft_timeout_s: float = 0.5
    """How long a call waits for a load while it holds a stale copy."""
    jitter: float = 0.1
    """Which part of `ttl_s` is drawn by lot, so that a page filled at once does not expire at once."""
    refresh_at: float = 0.75
    """The part of its life after which a value that is being read is loaded anew in the background."""
    max_loads: int = 64
    """How many loads of one codec a process runs side by side, each in a thread of its own."""

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
        """The life of one fill in L2, at most `ttl_s`."""
        return max(1, int(self.ttl_s * 1000 * (1 - self.jitter * random.random())))

    @property
    def lease_ms(self) -> int:
        """A lease outlives the longest load by half a second."""
        return int((self.load_timeout_s + 0.5) * 1000)

    @property
    def patience_s(self) -> float:
        """How long one holder of a lease is waited for before it is taken for dead."""
        return self.load_timeout_s / 4
