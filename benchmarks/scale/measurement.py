"""The whole measurement as one JSON object, part by part."""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.cpu import busy_share
from benchmarks.scale.alternatives import measure_alternatives
from benchmarks.scale.crowd import Address, crowd
from benchmarks.scale.drive import Load
from benchmarks.scale.fits import constant, fit
from benchmarks.scale.operations import (
    Bench,
    Cost,
    Writer,
    idle_us_per_s,
    measure_operations,
    new_keys,
)
from benchmarks.scale.real_load import RealExtent, measure_real
from benchmarks.scale.steady_load import run_load
from benchmarks.scale.stock import memory_per_entity, scans_of_a_pattern
from benchmarks.scale.storm import Storm, StormExtent, measure_storms
from benchmarks.scale.worker_cost import measure_worker
from servease_appt.cache import connect
from servease_appt.testing.servers import EmbeddedValkey

PREFIX = "appointment_service"
DATABASE = 1
WATCH_S = 1.0
PARTS = ("costs", "stock", "alternatives", "worker", "loads", "storms", "real")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    listeners: Sequence[int]
    rounds: int
    deliveries: int
    """Divided by the number of listeners, this is the number of calls of one operation."""
    calls: tuple[int, int]
    idle_s: float
    entities: int
    pattern_keys: Sequence[int]
    pattern_workers: Sequence[int]
    alternatives: tuple[int, int, int]
    """Connections, keys that each has read, and calls."""
    worker_messages: int
    storms: StormExtent
    loads: Sequence[tuple[int, bool, Load]]
    """Listeners, whether tracking is on, and the load."""
    real: RealExtent

    def calls_with(self, listeners: int) -> int:
        """Return the number of calls of one operation with so many listeners."""
        least, most = self.calls
        return max(least, min(most, self.deliveries // listeners))


_TARGET = Load(fills_per_s=500, invalidations_per_s=50, seconds=10.0)
FULL = Extent(
    listeners=(1, 4, 16, 64, 256, 1_000),
    rounds=3,
    deliveries=20_000,
    calls=(20, 300),
    idle_s=3.0,
    entities=100_000,
    pattern_keys=(100_000, 1_000_000),
    pattern_workers=(1, 4, 16),
    alternatives=(256, 100, 50),
    worker_messages=5_000,
    storms=StormExtent(
        storms=(Storm(1_000), Storm(10_000), Storm(10_000, same=True), Storm(10_000, keys_per_message=100)),
        rounds=7,
        seconds=3.0,
    ),
    loads=((1_000, False, _TARGET), (100, True, _TARGET), (100, False, _TARGET), (1_000, True, _TARGET)),
    real=RealExtent(
        tracking_off=(1, 4, 16, 64, 256, 1_000),
        tracking_on=(4, 64),
        target=Load(fills_per_s=500, invalidations_per_s=50, seconds=8.0),
        probe=0.04,
        busy=0.75,
        idle_s=3.0,
    ),
)
QUICK = Extent(
    listeners=(1, 8),
    rounds=1,
    deliveries=200,
    calls=(8, 12),
    idle_s=0.3,
    entities=1_000,
    pattern_keys=(2_000,),
    pattern_workers=(1,),
    alternatives=(4, 10, 5),
    worker_messages=20,
    storms=StormExtent(storms=(Storm(100),), rounds=1, seconds=0.5),
    loads=((8, True, Load(fills_per_s=50, invalidations_per_s=20, seconds=0.4)),),
    real=RealExtent(
        tracking_off=(9,),
        tracking_on=(),
        target=Load(fills_per_s=20, invalidations_per_s=20, seconds=0.5),
        probe=0.0,
        busy=0.9,
        idle_s=0.6,
    ),
)


def measure(extent: Extent, parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """Measure these parts. All of them take some minutes for `FULL`, a few seconds for `QUICK`.

    `measured` has the time of each part, by its name, and the share of the machine that other work used before it.
    """
    results: dict[str, Any] = {"measured": {}}
    for part in parts:
        at = datetime.now(UTC).isoformat(timespec="minutes")
        results["measured"][part] = {"at": at, "other_work": round(busy_share(WATCH_S), 3)}
        results |= _measure_part(part, extent)
    return results


def _measure_part(part: str, extent: Extent) -> dict[str, Any]:
    _say(part)
    alone: dict[str, Callable[[], object]] = {
        "alternatives": lambda: measure_alternatives(*extent.alternatives),
        "worker": lambda: measure_worker(extent.worker_messages),
        "storms": lambda: measure_storms(extent.storms),
        "real": lambda: measure_real(extent.real),
    }
    if part in alone:
        return {part: alone[part]()}
    with EmbeddedValkey() as server:
        if part == "costs":
            return _measure_costs(server, extent)
        if part == "stock":
            return _measure_stock(server, extent)
        return {part: [_measure_load(server, *load) for load in extent.loads]}


def _measure_stock(server: EmbeddedValkey, extent: Extent) -> dict[str, Any]:
    with connect(server.url(DATABASE), timeout_s=60.0) as client:
        memory = memory_per_entity(Writer.of(client, PREFIX), extent.entities)
    scans = scans_of_a_pattern(server, extent.pattern_keys, extent.pattern_workers)
    return {"memory": memory, "scans": scans}


def _measure_costs(server: EmbeddedValkey, extent: Extent) -> dict[str, Any]:
    costs: dict[str, list[Cost]] = {}
    heartbeats: list[tuple[int, float]] = []
    for listeners in extent.listeners:
        _say(f"{listeners} listeners")
        idle, measured = _measure_listeners(server, extent, listeners)
        heartbeats.append((listeners, idle))
        for name, cost in measured.items():
            costs.setdefault(name, []).append(cost)
    lines = {name: [(cost.listeners, cost.cpu_us) for cost in row] for name, row in costs.items()}
    lines["heartbeats of a second"] = heartbeats
    fits = {
        name: constant(points) if name.startswith("read") else fit(points) for name, points in lines.items()
    }
    return {
        "costs": {name: [cost.as_json() for cost in row] for name, row in costs.items()},
        "heartbeats": [{"listeners": n, "cpu_us_per_s": round(us, 1)} for n, us in heartbeats],
        "fits": {
            name: {"a_us": round(line.a, 2), "b_us": round(line.b, 4), "worst": round(line.worst, 3)}
            for name, line in fits.items()
        },
    }


def _measure_load(server: EmbeddedValkey, listeners: int, tracking: bool, load: Load) -> dict[str, Any]:
    _say(f"steady load on {listeners} listeners, tracking {'on' if tracking else 'off'}")
    address = Address(server.port, DATABASE, PREFIX)
    return run_load(server, address, listeners, load, tracking=tracking).as_json()


def _measure_listeners(
    server: EmbeddedValkey, extent: Extent, listeners: int
) -> tuple[float, dict[str, Cost]]:
    """Return the heartbeats' µs a second and the median cost of each operation."""
    address = Address(server.port, DATABASE, PREFIX)
    with connect(server.url(DATABASE), timeout_s=60.0) as client, crowd(address, listeners) as fakes:
        writer = Writer.of(client, PREFIX)
        for first in (writer.fill, writer.invalidate):  # loads the scripts
            first(new_keys(1))
        idle = statistics.median(idle_us_per_s(server.pid, extent.idle_s) for _ in range(extent.rounds))
        bench = Bench(server.pid, writer, fakes, idle)
        rounds = [measure_operations(bench, extent.calls_with(listeners)) for _ in range(extent.rounds)]
    return idle, {name: _median([one[name] for one in rounds]) for name in rounds[0]}


def _median(costs: Sequence[Cost]) -> Cost:
    return sorted(costs, key=lambda cost: cost.cpu_us)[len(costs) // 2]


def _say(what: str) -> None:
    sys.stderr.write(f"  {what} …\n")
