"""The results of a read: values, their sources, and the reasons for missing values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")


class Source(StrEnum):
    """The source of one value."""

    L1 = "l1"
    L2 = "l2"
    UPSTREAM = "upstream"
    STALE = "stale"
    UNKNOWN = "unknown"


class NoValue(Enum):
    """The reason why a key has no value."""

    MISS = "miss"
    """The cache does not hold the key, and the source was not called."""
    NOT_FOUND = "not_found"
    """The source answered that there is no such value, now or within `CachePolicy.negative_ttl_s`."""
    DENIED = "denied"
    """The source refused the caller's credentials; another caller may receive a value."""
    FAILED = "failed"
    """The source was unavailable, failed, or did not answer in time."""


@dataclass(slots=True)
class Lookup(Generic[V]):
    """The result of `TwoTierCache.get_many`. It belongs to the caller, who may change it.

    Attributes:
        values: the value of every requested key; None if there is no value.
        sources: the source of each value; keys whose value came from L1 are left out.
        no_values: the reason for each key whose value is None.
        cache_s: time that the call spent on L1 and L2, in seconds.
        upstream_s: time that the call waited for loads, in seconds.

    Example:
        >>> lookup = Lookup(values={"customer_1": None}, no_values={"customer_1": NoValue.FAILED})
        >>> lookup.no_values["customer_1"].value
        'failed'
    """

    values: dict[str, V | None]
    sources: dict[str, Source] = field(default_factory=dict)
    no_values: dict[str, NoValue] = field(default_factory=dict)
    cache_s: float = 0.0
    upstream_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Found(Generic[V]):
    """One value with its source and age: the result of `TwoTierCache.find` and `peek`.

    Attributes:
        value: the value; None if there is none.
        source: the tier or the loader from which this call took it.
        age_s: seconds since this process read it from L2 or loaded it; 0 if this call did.
        no_value: the reason why there is no value; None if there is one.

    Example:
        >>> Found({"name": "Ada"}, Source.L1, age_s=2.5).source.value
        'l1'
    """

    value: V | None
    source: Source
    age_s: float = 0.0
    no_value: NoValue | None = None


class Invalidated(NamedTuple):
    """The result of `TwoTierCache.invalidate_and_count`.

    Attributes:
        keys: the number of distinct keys.
        listeners: the number of connections to which the message was sent, of this process too; None: unknown.
    """

    keys: int
    listeners: int | None
