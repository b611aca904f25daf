"""What the next read of a key will do, in words, out of what each tier holds now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from servease_appt.cache import CachePolicy
from servease_appt.references.entities import PLACEHOLDERS

UNTRUSTED_S = 1.0


@dataclass(frozen=True, slots=True)
class InRedis:
    """The four keys of one entry. Lifetimes in seconds; None where there is no such key.

    Attributes:
        payload: the stored bytes; None where there are none, or the key holds no string.
        there: whether the data key exists at all.
        digest: of the value; None where the bytes are no value.
        holder: who holds the lease.
    """

    payload: bytes | None = None
    there: bool = False
    digest: str | None = None
    value_s: float | None = None
    copy_s: float | None = None
    absent_s: float | None = None
    lease_s: float | None = None
    holder: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "there": self.there,
            "value": None if self.payload is None else self.payload.decode(errors="replace"),
            "readable": self.digest is not None,
            "value_s": self.value_s,
            "copy_s": self.copy_s,
            "absent_s": self.absent_s,
            "lease_s": self.lease_s,
            "holder": self.holder,
        }


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What one worker goes by: its L1's entry as it tells it, and its breakers' states."""

    l1: dict[str, Any] | None
    redis_breaker: str = "closed"
    service_breaker: str = "closed"


def next_read(entity: str, held: InRedis, worker: WorkerView, policy: CachePolicy) -> str:
    """A sentence without its subject, the worker."""
    l1 = worker.l1
    if l1 is not None and l1["left_s"] > 0 and (l1["trusted"] or l1["age_s"] < UNTRUSTED_S):
        return _from_l1(entity, held, l1)
    rest = _asks_service(entity, held, worker, policy)
    if worker.redis_breaker == "open":
        return f"does not ask Redis, which failed a moment ago, and {rest}"
    if held.there and held.digest is None:
        return f"finds something in Redis that is no {entity}, deletes it, and {rest}"
    return _from_redis(entity, held, policy) or rest


def _from_redis(entity: str, held: InRedis, policy: CachePolicy) -> str | None:
    if held.there:
        return f"reads it from Redis{_into_l1(policy)}."
    if held.absent_s is not None:
        return (
            f"shows {PLACEHOLDERS[entity]!r} without asking: the {entity} service said that there is none,"
            f" which is remembered for {held.absent_s:.0f} s more."
        )
    if held.lease_s is not None:
        return f"waits for {held.holder}, which is loading it now, and takes over after {policy.patience_s:.1f} s."
    return None


def _from_l1(entity: str, held: InRedis, l1: dict[str, Any]) -> str:
    left_s = l1["left_s"] if l1["trusted"] else min(l1["left_s"], UNTRUSTED_S - l1["age_s"])
    if l1["absent"]:
        return (
            f"shows {PLACEHOLDERS[entity]!r} out of its own memory for up to {left_s:.1f} s more,"
            f" since the {entity} service said that there is none."
        )
    doubt = "" if l1["trusted"] else " (no longer: its channel is not confirmed)"
    differs = ""
    if held.digest is not None and l1["digest"] != held.digest:
        differs = " That is NOT what Redis holds: `cache invalidate` it if the difference stays."
    return f"answers out of its own memory for up to {left_s:.1f} s more{doubt}.{differs}"


def _into_l1(policy: CachePolicy) -> str:
    return f" and keeps it in its own memory for up to {policy.l1_ttl_s:g} s" if policy.l1_ttl_s else ""


def _asks_service(entity: str, held: InRedis, worker: WorkerView, policy: CachePolicy) -> str:
    copy_counts = held.copy_s is not None and worker.redis_breaker != "open"
    fallback = "the last known copy" if copy_counts else f"{PLACEHOLDERS[entity]!r}"
    if worker.service_breaker == "open":
        return f"does not ask the {entity} service, which failed several times just now: it shows {fallback}."
    return (
        f"asks the {entity} service, for {policy.load_timeout_s:g} s at most, and stores the answer;"
        f" if the service fails, it shows {fallback}."
    )
