"""What a read answers: values, where each came from, and why a key has none."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Generic, TypeVar

V = TypeVar("V")


class Source(StrEnum):
    """Where one value of an answer came from."""

    L1 = "l1"
    L2 = "l2"
    UPSTREAM = "upstream"
    STALE = "stale"
    UNKNOWN = "unknown"


class NoValue(Enum):
    """Why a key has no value: four different things, which one `None` would hide."""

    MISS = "miss"
    """The cache does not hold the key; nobody was asked for it."""
    NOT_FOUND = "not_found"
    """The source answered, just now or a short while ago, that there is no such value."""
    DENIED = "denied"
    """The source refused the caller's credentials; another caller may be given a value."""
    FAILED = "failed"
    """The source could not be asked, failed, or did not answer in time."""


@dataclass(slots=True)
class Lookup(Generic[V]):
    """The answer of `TwoTierCache.get_many`. Belongs to the caller, who may change it.

    Attributes:
        values: every key that was asked for; None where there is no value.
        sources: where each value came from, for all keys but those whose value came from L1.
        no_values: for each key whose value is None, why.
        cache_s: seconds that the call spent on L1 and L2.
        upstream_s: seconds that the call waited for loads.

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
