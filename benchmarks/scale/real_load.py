"""A steady load on real caches, and on as many fake listeners: Redis' share, staleness, and what a cache takes."""

import itertools
import os
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cpu import cpu_seconds
from benchmarks.scale.crowd import Address
from benchmarks.scale.drive import Driven, Load, drive
from benchmarks.scale.operations import Writer, new_keys
from benchmarks.scale.real_caches import Handled, RealCaches, real_caches
from benchmarks.scale.steady_load import run_load
from servease_appt.cache import connect
from servease_appt.testing.servers import EmbeddedValkey

PROBE_S = 2.0
SPARE = 8
"""More keys than a load invalidates at its rate."""


@dataclass(frozen=True, slots=True)
class RealExtent:
    """What is measured with real caches.

    Attributes:
        tracking_off: numbers of caches.
        tracking_on: numbers of caches whose listeners also receive tracking messages.
        target: the load; lowered by one factor where the machine is too small for it.
        probe: the share of `target` of the short run that shows what the load costs the machine; 0: there is no
            such run, and the target is not lowered.
        busy: the largest share of all cores that this measurement may use.
        idle_s: how long the caches are watched without a load.
    """

    tracking_off: Sequence[int]
    tracking_on: Sequence[int]
    target: Load
    probe: float
    busy: float
    idle_s: float


def measure_real(extent: RealExtent) -> list[dict[str, Any]]:
    """Return one row for each number of caches, with tracking off and then on."""
    cases = [*((size, False) for size in extent.tracking_off), *((size, True) for size in extent.tracking_on)]
    return [_measure(extent, size, tracking=tracking) for size, tracking in cases]


def _measure(extent: RealExtent, size: int, *, tracking: bool) -> dict[str, Any]:
    """Measure real caches, then fake listeners at the same rate on the same server."""
    with EmbeddedValkey() as server, connect(server.url(1), timeout_s=60.0) as client:
        address = Address(server.port, 1, "appointment_service")
        writer = Writer.of(client, address.prefix)
        for first in (writer.fill, writer.invalidate):  # loads the scripts
            first(new_keys(1))
        with real_caches(address, size, tracking=tracking) as caches:
            idle = _Used.by(server, caches, extent.idle_s)
            load = extent.target
            if extent.probe:
                probe = _run(server, address, writer, caches, _scaled(load, extent.probe, PROBE_S))
                load = _affordable(extent, idle.machine_s / extent.idle_s, probe)
            row = _run(server, address, writer, caches, load)
            footprints = caches.footprints
        held = iter(_held_keys(writer, load))
        fakes = run_load(server, address, size, load, tracking=tracking, lazy=False, keys=held)
    return {
        "listeners": size,
        "processes": len(footprints),
        "tracking": tracking,
        **row,
        "fake_core": round(fakes.core, 4),
        "idle_us_per_s": round(idle.caches_s * 1e6 / size / extent.idle_s, 1),
        "idle_core": round(idle.server_s / extent.idle_s, 4),
        "threads": round(sum(one.threads for one in footprints) / size, 2),
        "descriptors": round(sum(one.descriptors for one in footprints) / size, 2),
        "resident_kb": round(sum(one.resident_kb for one in footprints) / size, 1),
    }


@dataclass(frozen=True, slots=True)
class _Used:
    """Processor time of the server and of the caches' processes during a pause."""

    server_s: float
    caches_s: float

    @classmethod
    def by(cls, server: EmbeddedValkey, caches: RealCaches, seconds: float) -> "_Used":
        before = cpu_seconds([server.pid]), cpu_seconds(caches.pids)
        time.sleep(seconds)
        return cls(cpu_seconds([server.pid]) - before[0], cpu_seconds(caches.pids) - before[1])

    @property
    def machine_s(self) -> float:
        return self.server_s + self.caches_s


def _scaled(load: Load, factor: float, seconds: float) -> Load:
    return Load(load.fills_per_s * factor, load.invalidations_per_s * factor, seconds)


def _affordable(extent: RealExtent, idle_cores: float, probe: dict[str, Any]) -> Load:
    """Return the target, or the part of it with which this measurement uses `busy` of the machine."""
    spent = probe["machine"] * (os.cpu_count() or 1) - idle_cores
    affordable = extent.busy * (os.cpu_count() or 1) - idle_cores
    factor = extent.probe * affordable / spent if spent > 0 else 1.0
    return _scaled(extent.target, min(1.0, max(factor, 0.01)), extent.target.seconds)


def _held_keys(writer: Writer, load: Load) -> list[str]:
    """Return keys that L2 has, enough of them for all invalidations of the load."""
    keys = new_keys(int(load.invalidations_per_s * load.seconds) + SPARE)
    for start in range(0, len(keys), 100):
        writer.fill(keys[start : start + 100])
    return keys


def _run(
    server: EmbeddedValkey, address: Address, writer: Writer, caches: RealCaches, load: Load
) -> dict[str, Any]:
    keys = _held_keys(writer, load)
    caches.hold(keys)
    driven = drive(server, address, writer, load, keys=iter(keys), watched=caches.pids)
    handled = caches.handled(keys[: driven.invalidations])
    if any(one.kept for one in handled):
        raise RuntimeError("an L1 still holds a key that was invalidated")
    late_ms = [_late_ms(one, driven) for one in handled]
    machine_s = driven.watched_s + driven.server_s + driven.driver_s
    return {
        "fills_per_s": round(driven.fills / driven.elapsed_s, 1),
        "invalidations_per_s": round(driven.invalidations / driven.elapsed_s, 2),
        "core": round(driven.server_s / driven.elapsed_s, 4),
        "machine": round(machine_s / driven.elapsed_s / (os.cpu_count() or 1), 3),
        "beats_per_s": round(driven.beats / driven.elapsed_s, 1),
        "untrusted": sum(one.untrusted for one in handled),
        "samples": sum(one.samples for one in handled),
        "late_ms": _quantiles(sorted(itertools.chain.from_iterable(late_ms))),
        "late_of_last_ms": _quantiles(sorted(late_ms[-1])),
    }


def _late_ms(handled: Handled, driven: Driven) -> list[float]:
    """Return how long after an invalidation had returned each cache had handled it; 0: not later."""
    late_ms = []
    for times_ns in handled.times_ns:
        times = array("q", times_ns)
        if len(times) != driven.invalidations:
            raise RuntimeError(f"a cache has handled {len(times)} of {driven.invalidations} messages")
        late_ms += [max(0, at - back) / 1e6 for at, back in zip(times, driven.returned_ns, strict=True)]
    return late_ms


def _quantiles(ordered: Sequence[float]) -> dict[str, float]:
    return {
        "p50": round(ordered[len(ordered) // 2], 2),
        "p99": round(ordered[int(len(ordered) * 0.99)], 2),
        "max": round(ordered[-1], 2),
    }
