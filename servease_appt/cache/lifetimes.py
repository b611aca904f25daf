"""Lifetimes of one type of value, where they differ from the cache's policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from servease_appt.cache.policy import CachePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """Lifetimes of the values of one codec, in seconds; None: the cache's policy decides. Immutable.

    Example:
        >>> codec = json_codec("customer", lifetimes=Lifetimes(ttl_s=60, stale_ttl_s=0))
        >>> codec.lifetimes.applied_to(CachePolicy()).ttl_s
        60

    See `CachePolicy` for each field and its range.
    """

    ttl_s: float | None = None
    l1_ttl_s: float | None = None
    """0: L1 does not serve these values. If the policy's is 0, L1 is off for all values."""
    negative_ttl_s: float | None = None
    stale_ttl_s: float | None = None

    def applied_to(self, policy: CachePolicy) -> CachePolicy:
        """Return the policy with these lifetimes. Raises ValueError if one is out of range."""
        return replace(policy, **{name: value for name, value in asdict(self).items() if value is not None})


class Policies:
    """The policy of each type of value in one cache. Immutable.

    Args:
        default: the policy of the cache.
        lifetimes: by codec name, what differs.

    Raises:
        ValueError: a lifetime is out of range.
    """

    def __init__(self, default: CachePolicy, lifetimes: Mapping[str, Lifetimes | None] | None = None) -> None:
        own = {name: given for name, given in (lifetimes or {}).items() if given is not None}
        self.default = default
        self._by_name = {name: given.applied_to(default) for name, given in own.items()}
        self.same_for_all: bool = not self._by_name
        self.longest_l1_ttl_s: float = max(policy.l1_ttl_s for policy in (default, *self._by_name.values()))

    def of(self, key: str) -> CachePolicy:
        """Return the policy of a key."""
        if self.same_for_all:
            return self.default
        return self._by_name.get(key.partition("_")[0], self.default)
