"""What a loader is, and what it may return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from servease_appt.cache.errors import CacheError

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[V]):
    """A loaded value with a lifetime of its own. A loader may return it in place of the value.

    Example:
        >>> answer = Loaded({"rate": 1.08}, ttl_s=30)
        >>> answer.value["rate"], answer.keep
        (1.08, True)

    Args:
        value: the value.
        ttl_s: TTL in L2 in seconds, more than 0, used without jitter; None: as the policy says.
        keep: False to pass the value to the callers that wait for it and store it in neither tier.

    Raises:
        ValueError: `ttl_s` is 0 or less.
    """

    value: V
    ttl_s: float | None = None
    keep: bool = True

    def __post_init__(self) -> None:
        if self.ttl_s is not None and self.ttl_s <= 0:
            raise ValueError(f"ttl_s must be more than 0, not {self.ttl_s!r}; keep=False stores nothing")


Load = Callable[[str, float], V | Loaded[V]]
"""`load(key, timeout_s)` returns a value. It raises ValueNotFound, LoadDenied, or anything else for a failure."""

LoadMany = Callable[[Sequence[str], float], Mapping[str, V | Loaded[V] | CacheError]]
"""`load_many(keys, timeout_s)` returns values by key; see `TwoTierCache.get_many`."""


@dataclass(frozen=True, slots=True)
class BatchLoader(Generic[V]):
    """Marks a loader that is called with all missing keys of one codec at once."""

    load_many: LoadMany[V]
