"""Read what Redis stores for one key: the value, its lifetimes, a remembered absence, a load under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from servease_appt.cache.codecs import Codecs
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.worker_queries import digest
from servease_appt.references.entities import Reference


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """The four Redis keys of one cache key. Lifetimes are seconds; None where there is no such key, or no end.

    Attributes:
        key: The cache key, such as `customer_UUID`.
        exists: Whether there is anything under the data key, whatever its type.
        payload: The stored bytes; None where there are none, or the data key holds no string.
        digest: Of the value, to compare it without showing it; None where the bytes are not a valid value.
        value_s: Until the value expires.
        stale_s: Until the stale copy expires, which is shown when the service fails.
        absent_s: For how long it is remembered that the service has no such entity.
        lease_s: Until the lease of the worker that loads the value expires.
        lease_holder: The identity of that worker, as it is written in the lease.
    """

    key: str
    exists: bool = False
    payload: bytes | None = None
    digest: str | None = None
    value_s: float | None = None
    stale_s: float | None = None
    absent_s: float | None = None
    lease_s: float | None = None
    lease_holder: str | None = None

    @property
    def entity(self) -> str:
        """Return the entity that the key names."""
        return self.key.partition("_")[0]

    @property
    def text(self) -> str | None:
        """Return the stored bytes as text; None where there are none."""
        return None if self.payload is None else self.payload.decode(errors="replace")


def read_entry(client: Redis, keys: KeySpace, codecs: Codecs[Reference], key: str) -> StoredEntry:
    """Read one entry in one round trip. Raises redis-py's errors when Redis does not answer."""
    data, lease, absent, stale = keys.group(key)
    with client.pipeline(transaction=False) as pipeline:
        pipeline.get(data)
        pipeline.get(lease)
        for name in (data, lease, absent, stale):
            pipeline.pttl(name)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
    value, holder, value_ms, lease_ms, absent_ms, stale_ms = replies
    if isinstance(value, ResponseError) and "WRONGTYPE" not in str(value):
        raise value
    payload = value if isinstance(value, bytes) else None
    decoded = None if payload is None else codecs.decode(key, payload)
    return StoredEntry(
        key=key,
        exists=value is not None,
        payload=payload,
        digest=None if decoded is None else digest(codecs, key, decoded),
        value_s=seconds_left(value_ms),
        stale_s=seconds_left(stale_ms),
        absent_s=seconds_left(absent_ms),
        lease_s=seconds_left(lease_ms),
        lease_holder=holder.decode(errors="replace").rpartition(":")[0]
        if isinstance(holder, bytes)
        else None,
    )


def seconds_left(pttl_ms: object) -> float | None:
    """Turn a PTTL reply into seconds; None for a key that is gone, that has no end, or for an error."""
    return pttl_ms / 1000 if isinstance(pttl_ms, int) and pttl_ms >= 0 else None


def same_value(l1_digest: str | None, stored: StoredEntry) -> bool | None:
    """Say whether a worker's L1 holds the value that Redis holds; None where either has no value."""
    return None if not l1_digest or stored.digest is None else l1_digest == stored.digest
