"""Stores without a loader, for callers that read, compute and store by themselves, such as Flask-Caching.

A fill stores a value computed after a miss, under the fence of that miss. A write is unconditional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from servease_appt.cache.codecs import Codecs
from servease_appt.cache.epochs import Epoch
from servease_appt.cache.errors import L2RefusedWrite, L2Unavailable
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.l1 import Entry
from servease_appt.cache.l2.protocol import L2, Fill, LeaseState, Write, WriteMode, Written
from servease_appt.cache.lifetimes import Policies
from servease_appt.cache.stats import Event, Recorder, Tier

V = TypeVar("V")

FENCE_MS = 300_000
"""Milliseconds that a caller may take to compute a value after a miss; longer than servers let a request run."""
BATCH = 500


class Fence(NamedTuple):
    """Proof for `TwoTierCache.fill` that a key was not invalidated since a miss."""

    token: bytes
    epoch: Epoch
    granted: bool = True
    """True if this miss took the lease; False if another call holds it, in this or another worker."""
    stale: bytes | None = None
    """The bytes of the stale copy; None if there is none."""


class DirectStore(Generic[V]):
    """Stores values without a loader, for one process. Thread-safe."""

    def __init__(
        self,
        *,
        l2: L2,
        codecs: Codecs[V],
        policies: Policies,
        recorder: Recorder,
        event_log: EventLog,
        identity: str,
        epoch: Callable[[], Epoch],
        new_token: Callable[[], str],
        keep: Callable[[list[tuple[str, Entry[V]]], Epoch], None],
        drop: Callable[[Sequence[str]], None],
    ) -> None:
        self._l2 = l2
        self._codecs = codecs
        self._policies = policies
        self._recorder = recorder
        self._event_log = event_log
        self._identity = identity
        self._epoch = epoch
        self._new_token = new_token
        self._keep = keep
        self._drop = drop

    def take_fences(
        self, missing: Sequence[str], *, refresh: bool = False
    ) -> tuple[dict[str, V], dict[str, Fence]]:
        """Return the values stored in L2 meanwhile, and the fences of keys that L2 still lacks.

        With `refresh`, the fences of all keys are returned, although L2 has values.
        """
        epoch, token = self._epoch(), self._new_token()
        values: dict[str, V] = {}
        fences: dict[str, Fence] = {}
        try:
            leases = self._l2.acquire(missing, token, FENCE_MS, refresh=refresh)
        except L2Unavailable:
            self._recorder.count(Tier.L2, Event.ERROR, "-")
            return values, fences
        for key, lease in zip(missing, leases, strict=True):
            value = self._codecs.decode(key, lease.payload) if lease.state is LeaseState.VALUE else None
            if value is not None:
                values[key] = value
            elif lease.state in (LeaseState.GRANTED, LeaseState.HELD):
                granted = lease.state is LeaseState.GRANTED
                fences[key] = Fence(lease.payload, epoch, granted, lease.stale)
        return values, fences

    def fill_many(self, fills: Mapping[str, tuple[V, Fence]], ttl_s: float | None) -> list[str]:
        """See `TwoTierCache.fill_many`."""
        ttl_ms = _milliseconds(ttl_s)
        wanted = [
            Fill(key, fence.token, self._codecs.of(key).encode(value), ttl_ms, self._stale_ms(key, ttl_ms))
            for key, (value, fence) in fills.items()
        ]
        try:
            flags = [flag for batch in _batches(wanted) for flag in self._l2.fill(batch)]
        except L2Unavailable:
            self._recorder.count(Tier.L2, Event.ERROR, "-")
            return []
        stored = [fill.key for fill, taken in zip(wanted, flags, strict=True) if taken]
        refused = [fill.key for fill, taken in zip(wanted, flags, strict=True) if not taken]
        if stored:
            self._event_log.note(Tier.L2, Event.FILL, stored)
        if refused:
            self._event_log.note(Tier.L2, Event.REFUSED_FILL, refused)
        sizes = {fill.key: len(fill.payload or b"") for fill in wanted}
        for key in stored:
            value, fence = fills[key]
            read_at_s, l1_ttl_s = fence.epoch.at_s, self._policies.of(key).l1_ttl_s
            longest_s = l1_ttl_s if ttl_s is None else min(l1_ttl_s, ttl_s)
            entry = Entry(self._shared(key, value), read_at_s, read_at_s + longest_s, sizes[key])
            self._keep([(key, entry)], fence.epoch)
        return stored

    def release(self, fences: Mapping[str, Fence]) -> None:
        """See `TwoTierCache.release`."""
        own = [(key, fence.token) for key, fence in fences.items() if fence.granted]
        try:
            if own:
                self._l2.release(own)
        except L2Unavailable:
            self._recorder.count(Tier.L2, Event.ERROR, "-")

    def write_many(self, values: Mapping[str, V], ttl_s: float | None) -> bool:
        """See `TwoTierCache.write_many`."""
        return len(self._write(values, ttl_s, WriteMode.ALWAYS)) == len(values)

    def renew_many(self, values: Mapping[str, V], ttl_s: float | None) -> list[str]:
        """See `TwoTierCache.renew_many`."""
        return self._write(values, ttl_s, WriteMode.IF_SAME)

    def add(self, key: str, value: V, ttl_s: float | None) -> bool:
        """See `TwoTierCache.add`."""
        return bool(self._write({key: value}, ttl_s, WriteMode.IF_ABSENT))

    def increment(self, key: str, delta: int) -> int | None:
        """See `TwoTierCache.increment`."""
        self._codecs.of(key)
        try:
            number = int(self._l2.increment(key, delta, self._identity))
        except L2RefusedWrite as error:
            self._recorder.count(Tier.L2, Event.ERROR, "-")
            if any(word in str(error) for word in ("integer", "overflow", "WRONGTYPE")):
                raise ValueError(f"{key!r} holds no number of 64 bits: {error}") from error
            return None
        except L2Unavailable:
            self._recorder.count(Tier.L2, Event.ERROR, "-")
            return None
        finally:
            self._drop((key,))
        self._event_log.note(Tier.L2, Event.FILL, (key,), "written")
        return number

    def _stale_ms(self, key: str, ttl_ms: int) -> int:
        """Return the TTL of the stale copy; 0: none."""
        stale_ttl_s = self._policies.of(key).stale_ttl_s
        return ttl_ms + int(stale_ttl_s * 1000) if stale_ttl_s and ttl_ms else 0

    def _shared(self, key: str, value: V) -> V:
        """Return the value as other workers decode it, if the codec's `reread` is set."""
        codec = self._codecs.of(key)
        return codec.decode(codec.encode(value), key.partition("_")[2]) if codec.reread else value

    def _write(self, values: Mapping[str, V], ttl_s: float | None, mode: WriteMode) -> list[str]:
        """Return the keys whose values L2 now holds; L1 keeps values that L2 already held."""
        ttl_ms, l1_ms = _milliseconds(ttl_s), int(self._policies.longest_l1_ttl_s * 1000)
        writes = [Write(key, self._codecs.of(key).encode(value), ttl_ms) for key, value in values.items()]
        results: dict[str, Written] = {}
        try:
            for batch in _batches(writes):
                written = self._l2.write(batch, self._identity, mode=mode, l1_ms=l1_ms)
                results.update(zip((write.key for write in batch), written, strict=True))
        except L2Unavailable:
            self._recorder.count(Tier.L2, Event.ERROR, "-")
        finally:
            # A write without an answer may have been carried out.
            unsure = [key for key in values if results.get(key) in (None, Written.CHANGED)]
            if unsure:
                self._drop(unsure)
        changed = [key for key, result in results.items() if result is Written.CHANGED]
        if changed:
            self._event_log.note(Tier.L2, Event.FILL, changed, "written")
        return [key for key, result in results.items() if result is not Written.REFUSED]


T = TypeVar("T")


def _batches(items: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _milliseconds(ttl_s: float | None) -> int:
    """Return the TTL in the scripts' form: milliseconds, 0 for no expiry."""
    return 0 if ttl_s is None else max(1, int(ttl_s * 1000))
