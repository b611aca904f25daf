"""Predict in words what the next read of a key will do, from what each tier holds now."""

from __future__ import annotations

from dataclasses import dataclass

from servease_appt.cache import CachePolicy
from servease_appt.inspection.entries import StoredEntry, same_value
from servease_appt.inspection.workers import L1Entry
from servease_appt.references.entities import ENTITIES

UNTRUSTED_S = 1.0


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What one worker decides by: its L1 and its switch, and the states of the two breakers that matter."""

    l1: L1Entry | None
    redis_breaker: str = "closed"
    service_breaker: str = "closed"
    l1_switched_off: bool = False


def next_read(stored: StoredEntry, worker: WorkerView, policy: CachePolicy) -> str:
    """Return a sentence about a worker's next read, without its subject."""
    l1 = worker.l1
    if l1 is not None and l1.left_s > 0 and (l1.trusted or l1.age_s < UNTRUSTED_S):
        return _from_l1(stored, l1)
    from_service = _from_service(stored, worker, policy)
    if worker.redis_breaker == "open":
        return f"does not query Redis, which failed less than 2 s ago, and {from_service}"
    if stored.exists and stored.digest is None:
        return f"finds bytes in Redis that are not a {stored.entity}, deletes them, and {from_service}"
    return _from_redis(stored, worker, policy) or from_service


def _from_redis(stored: StoredEntry, worker: WorkerView, policy: CachePolicy) -> str | None:
    if stored.exists:
        return f"reads it from Redis{_into_l1(worker, policy)}."
    if stored.absent_s is not None:
        return (
            f"shows {ENTITIES[stored.entity].placeholder!r} without a call: the {stored.entity} service answered"
            f" 404, which is remembered for {stored.absent_s:.0f} s more."
        )
    if stored.lease_s is not None:
        return (
            f"waits for {stored.lease_holder}, which is loading it now, and takes over after"
            f" {policy.patience_s:.1f} s."
        )
    return None


def _from_l1(stored: StoredEntry, l1: L1Entry) -> str:
    left_s = l1.left_s if l1.trusted else min(l1.left_s, UNTRUSTED_S - l1.age_s)
    if l1.absent:
        return (
            f"shows {ENTITIES[stored.entity].placeholder!r} from L1 for up to {left_s:.1f} s more:"
            f" the {stored.entity} service answered 404."
        )
    limit = "" if l1.trusted else " (not longer, because its channel is not confirmed)"
    differs = ""
    if same_value(l1.digest, stored) is False:
        differs = " Redis holds ANOTHER value: run `cache invalidate` if the difference stays."
    return f"is answered from L1 for up to {left_s:.1f} s more{limit}.{differs}"


def _into_l1(worker: WorkerView, policy: CachePolicy) -> str:
    if worker.l1_switched_off:
        return "; its L1 is switched off"
    return f" and keeps it in L1 for up to {policy.l1_ttl_s:g} s" if policy.l1_ttl_s else ""


def _from_service(stored: StoredEntry, worker: WorkerView, policy: CachePolicy) -> str:
    stale_helps = stored.stale_s is not None and worker.redis_breaker != "open"
    fallback = "the stale copy" if stale_helps else repr(ENTITIES[stored.entity].placeholder)
    if worker.service_breaker == "open":
        return f"does not call the {stored.entity} service, whose breaker is open: it shows {fallback}."
    return (
        f"calls the {stored.entity} service, for {policy.load_timeout_s:g} s at most, and stores the answer;"
        f" if the call fails, it shows {fallback}."
    )
