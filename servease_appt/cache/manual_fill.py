"""Values that a caller stores by hand, where no loader can be given to the cache."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from servease_appt.cache.codecs import Codecs
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.l1 import Entry, Epoch
from servease_appt.cache.l2.protocol import Fill, LeaseState
from servease_appt.cache.policy import CachePolicy
from servease_appt.cache.process import Process
from servease_appt.cache.results import Lookup
from servease_appt.cache.stats import Event, Recorder, Tier

V = TypeVar("V")

MANUAL_LEASE_MS = 30_000


class Fence(NamedTuple):
    """Proves to `TwoTierCache.fill` that no invalidation came since a miss."""

    token: str
    epoch: Epoch


class ManualFill(Generic[V]):
    """Takes fences, fills under them, and writes without. Thread-safe."""

    def __init__(
        self, process: Process[V], codecs: Codecs[V], policy: CachePolicy, recorder: Recorder
    ) -> None:
        self._process = process
        self._codecs = codecs
        self._policy = policy
        self._recorder = recorder

    def take_fences(self, lookup: Lookup[V], missing: list[str]) -> dict[str, Fence]:
        """Return a fence for each missing key; a value that has come meanwhile goes into `lookup`."""
        process = self._process
        epoch, token = process.l1.epoch(), process.loader.new_token()
        try:
            leases = process.l2.acquire(missing, token, MANUAL_LEASE_MS)
        except L2Unavailable:
            self._recorder.count(Tier.L2, Event.ERROR, "-")
            return {}
        fences = {}
        for key, lease in zip(missing, leases, strict=True):
            value = self._codecs.decode(key, lease.payload) if lease.state is LeaseState.VALUE else None
            if value is not None:
                lookup.values[key] = value
            elif lease.state in (LeaseState.GRANTED, LeaseState.HELD):
                fences[key] = Fence(lease.payload.decode(), epoch)
        return fences

    def fill(self, key: str, value: V, fence: Fence, ttl_s: float) -> bool:
        """See `TwoTierCache.fill`."""
        process = self._process
        fill = Fill(key, fence.token, self._codecs.of(key).encode(value), int(ttl_s * 1000), 0)
        try:
            (stored,) = process.l2.fill([fill])
        except L2Unavailable:
            self._recorder.count(Tier.L2, Event.ERROR, "-")
            return False
        process.event_log.note(Tier.L2, Event.FILL if stored else Event.REFUSED_FILL, (key,))
        if stored:
            read_at_s = fence.epoch.at_s
            entry = Entry(value, read_at_s, read_at_s + min(self._policy.l1_ttl_s, ttl_s))
            process.keeper.keep([(key, entry)], fence.epoch)
        return stored

    def write(self, key: str, value: V, ttl_s: float) -> bool:
        """See `TwoTierCache.write`."""
        process = self._process
        try:
            process.l2.write(key, self._codecs.of(key).encode(value), int(ttl_s * 1000), process.identity)
        except L2Unavailable:
            self._recorder.count(Tier.L2, Event.ERROR, "-")
            return False
        finally:
            process.invalidator.drop((key,))
        process.event_log.note(Tier.L2, Event.FILL, (key,), "written")
        return True
