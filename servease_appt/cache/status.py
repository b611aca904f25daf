"""The mode and state of a cache."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from servease_appt.cache.breaker import Breaker
from servease_appt.cache.l1 import L1
from servease_appt.cache.listener import Listener
from servease_appt.cache.refusals import Refusal

V = TypeVar("V")


class Mode(StrEnum):
    """The mode of the cache, which health, metrics and the doctor report."""

    BOTH = "both"
    """Both tiers serve."""
    L2_ONLY = "l2_only"
    """The channel is not confirmed: L1 serves only entries loaded within the last second. Or L1 is off."""
    L1_ONLY = "l1_only"
    """Redis does not answer: L1 serves entries loaded within the last second, all else comes from the source.
    Or it has lost invalidations, and its values are not deleted yet. Or, under Sentinel, the channel is lost, and
    another server may be the primary."""
    DIRECT = "direct"
    """As `L1_ONLY` with L1 off: every read goes to the source."""


class ChannelState(NamedTuple):
    """The state of the channel on which a process receives invalidations."""

    alive: bool
    """True while the listener's thread runs."""
    confirmed: bool
    """True from the first answered heartbeat of a connection until it is lost."""
    tracking: bool
    """True if the server sends tracking messages."""
    sequence: int | None
    """The number of the last invalidation received; None: none yet."""
    silent_s: float
    """Seconds since the server last answered, or since the start."""


def channel_state(listener: Listener) -> ChannelState:
    """Return the state of a listener that was started."""
    return ChannelState(
        listener.alive, listener.confirmed, listener.tracking, listener.sequence, listener.silent_s
    )


def mode_of(*, l2_is_used: bool, l1_is_on: bool, l1_is_trusted: bool) -> Mode:
    """Return the mode for these states."""
    if l2_is_used:
        return Mode.BOTH if l1_is_trusted and l1_is_on else Mode.L2_ONLY
    return Mode.L1_ONLY if l1_is_on else Mode.DIRECT


def describe(
    identity: str,
    mode: Mode,
    l1: L1[V],
    listener: Listener,
    breaker: Breaker,
    *,
    refusal: Refusal | None,
    l1_switched_off: bool,
) -> dict[str, Any]:
    """Return the state of one process's cache, as a JSON object."""
    return {
        "id": identity,
        "mode": mode.value,
        "l1_switched_off": l1_switched_off,
        "l1_entries": l1.size(),
        "l1_evictions": l1.evictions,
        "listening": listener.started and listener.alive,
        "l1_entries_by_entity": l1.sizes(),
        "heard_s_ago": round(listener.silent_s, 3) if listener.started else None,
        "channel_confirmed": listener.confirmed,
        "tracking": listener.tracking,
        "sequence": listener.sequence,
        "redis_breaker": breaker.state.value,
        "redis_refuses": None if refusal is None else f"{refusal.cause}: {refusal.reason}",
    }
