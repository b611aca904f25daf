"""What a cache says of its own state."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.l1 import L1
from servease_appt.cache.listener import Listener

V = TypeVar("V")


class Mode(StrEnum):
    """What the cache does right now; named in health, metrics and the doctor."""

    BOTH = "both"
    """Both tiers serve."""
    L2_ONLY = "l2_only"
    """The channel is unsure: L1 serves only what it loaded within the last second."""
    L1_ONLY = "l1_only"
    """Redis does not answer: what was loaded within the last second, else the source."""
    DIRECT = "direct"
    """Redis does not answer and L1 is off: every read goes to the source."""


def mode_of(breaker: Breaker, *, l1_is_on: bool, l1_is_trusted: bool) -> Mode:
    """Return the mode that these states make."""
    if breaker.state is BreakerState.CLOSED:
        return Mode.BOTH if l1_is_trusted and l1_is_on else Mode.L2_ONLY
    return Mode.L1_ONLY if l1_is_on else Mode.DIRECT


def describe(identity: str, mode: Mode, l1: L1[V], listener: Listener, breaker: Breaker) -> dict[str, Any]:
    """Return the state of one process's cache, as JSON."""
    return {
        "id": identity,
        "mode": mode.value,
        "l1_entries": l1.size(),
        "l1_evictions": l1.evictions,
        "listening": listener.started and listener.alive,
        "l1_entries_by_entity": l1.sizes(),
        "heard_s_ago": round(listener.silent_s, 3) if listener.started else None,
        "channel_confirmed": listener.confirmed,
        "tracking": listener.tracking,
        "sequence": listener.sequence,
        "redis_breaker": breaker.state.value,
    }
