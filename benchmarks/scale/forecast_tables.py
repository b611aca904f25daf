"""The tables of `docs/scaling.md` that the model computes from the measured costs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.report import number
from benchmarks.scale.markdown import table
from benchmarks.scale.model import HALF_BUSY, HEARTBEAT_BYTES, Costs, Outcome, Scenario, delay_ms, solve

WORKERS = (10, 50, 200, 1_000)
ENTITIES = (10_000, 1_000_000, 100_000_000)
STORMS = (1, 10, 100, 1_000, 10_000)
STORM_WORKERS = 64
PER_HOST = 10
INVALIDATIONS = 50


def steady(
    workers: int,
    *,
    costs: Costs,
    fills: float,
    invalidations: float,
    tracking: bool,
    per_listener: int = 1,
) -> float:
    """Return the share of Redis' core by workers, for given fills and invalidations a second."""
    listeners = math.ceil(workers / per_listener)
    each_fill_us = costs.fill_us + (listeners * costs.tracking_us if tracking else 0.0)
    each_message_us = costs.invalidation_us + listeners * costs.message_us
    busy_us = fills * each_fill_us + invalidations * each_message_us + listeners * costs.heartbeat_us
    return busy_us / 1e6


def most_workers(core: Callable[[int], float], share: float = HALF_BUSY) -> int:
    """Return the largest number of workers with which Redis' core is busy for at most `share`."""
    low, high = 0, 1
    while core(high) <= share and high < 10**7:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if core(middle) <= share else (low, middle)
    return low


def capacity(costs: Costs) -> str:
    """Return the largest number of workers for one Redis, by fills a second and kind of listener."""
    rows = []
    for fills, invalidations in ((100, 10), (500, 50), (1_000, 100), (2_000, 200)):
        row = [f"{fills:,} fills, {invalidations:,} invalidations"]
        for tracking, per_listener in ((True, 1), (False, 1), (True, PER_HOST), (False, PER_HOST)):
            core = partial(
                steady,
                costs=costs,
                fills=fills,
                invalidations=invalidations,
                tracking=tracking,
                per_listener=per_listener,
            )
            row.append(f"{_rounded(most_workers(core)):,}")
        rows.append(row)
    heads = [
        "a second",
        "tracking on (default)",
        "tracking off",
        f"one listener for {PER_HOST} workers, tracking on",
        f"one listener for {PER_HOST}, tracking off",
    ]
    return table(heads, rows)


@dataclass(frozen=True, slots=True)
class _Setup:
    """What to run up to a number of workers, with 50 invalidations a second."""

    sizes: str
    workers: int
    fills: int
    run: str
    settings: str
    tracking: bool
    primaries: int = 1


_SETUPS = (
    _Setup("1 to 20, on 1 or 2 hosts", 20, 500, "one Redis or Valkey", "defaults", tracking=True),
    _Setup(
        "20 to 100",
        100,
        500,
        "a primary with a replica, and three Sentinels: while a single server is down, L1's last second is all"
        " that is left",
        "defaults; the doctor warns when messages take a tenth of a core",
        tracking=True,
    ),
    _Setup("100 to 1,000", 1_000, 500, "the same", "`CACHE_TRACKING=0`", tracking=False),
    _Setup(
        "100 to 1,000",
        1_000,
        5_000,
        "a longer `CACHE_TIMEOUT` and a larger `CACHE_L1_MAXSIZE` first; else a Cluster, here of three primaries",
        "`CACHE_TRACKING=0`",
        tracking=False,
        primaries=3,
    ),
)


def setups(costs: Costs) -> str:
    """Return what to run for each size, what it costs the busiest server, and where it ends."""
    rows = []
    for setup in _SETUPS:
        fills = setup.fills / setup.primaries
        core = partial(steady, costs=costs, fills=fills, invalidations=INVALIDATIONS, tracking=setup.tracking)
        scenario = Scenario(setup.workers, 1, invalidations=INVALIDATIONS, tracking=setup.tracking)
        messages = INVALIDATIONS * costs.message_bytes + (
            fills * costs.tracking_bytes if setup.tracking else 0
        )
        sent = setup.workers * (messages + 2 * HEARTBEAT_BYTES)
        rows.append(
            [
                setup.sizes,
                f"{setup.fills:,}",
                setup.run,
                setup.settings,
                f"{core(setup.workers):.0%}",
                f"{sent / 1e6:.1f}",
                _delay(delay_ms(scenario, costs, fills, core(setup.workers))),
                f"{_rounded(most_workers(core)):,} workers",
            ]
        )
    heads = ["workers", "fills/s", "run", "settings", "Redis' core", "MB/s sent to listeners"]
    heads += ["p99 delay", "half of the core at"]
    return table(heads, rows)


def _rounded(value: int) -> int:
    digits = max(0, len(str(value)) - 2)
    return int(value // 10**digits * 10**digits)


def sizes(costs: Costs) -> str:
    """Return what services of different sizes cost, with tracking on and off."""
    rows = []
    for workers in WORKERS:
        for entities in ENTITIES:
            on = solve(Scenario(workers=workers, entities=entities), costs)
            off = solve(replace(on.scenario, tracking=False), costs)
            rows.append(
                [
                    f"{workers:,}",
                    _power(entities),
                    f"{on.l1_hits:.0%}",
                    f"{on.l2_hits:.0%}",
                    number(on.fills),
                    number(on.messages),
                    _core(on),
                    _core(off),
                    f"{off.network_bytes / 1e6:,.1f}",
                    _memory(on.memory_bytes),
                    _delay(on.delay_ms),
                    _delay(off.delay_ms),
                    ", ".join(off.limits) or "none",
                ]
            )
    heads = [
        "workers",
        "entities",
        "L1",
        "L2",
        "fills/s",
        "messages/s",
        "core, tracking on",
        "core, off",
        "MB/s, off",
        "memory",
        "p99 delay, on",
        "off",
        "limits passed with tracking off",
    ]
    return table(heads, rows)


def storms(costs: Costs) -> str:
    """Return what a storm of invalidations costs on 64 workers."""
    base = Scenario(workers=STORM_WORKERS, entities=1_000_000)
    rows = []
    for rate in STORMS:
        outcome = solve(replace(base, invalidations=rate), costs)
        rows.append(
            [
                f"{rate:,}",
                f"{outcome.l1_hits:.1%}",
                f"{outcome.l2_hits:.1%}",
                number(outcome.messages),
                _core(outcome),
                _delay(outcome.delay_ms),
            ]
        )
    return table(["invalidations/s", "L1", "L2", "messages/s", "Redis' core", "p99 delay"], rows)


def _core(outcome: Outcome) -> str:
    share = outcome.redis_core
    return f"{share:.1%}" if share < 1 else f"**{share:,.1f} cores**"


def _delay(delay_ms: float) -> str:
    return "never" if math.isinf(delay_ms) else f"{delay_ms:.1f} ms"


def _memory(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _power(n: int) -> str:
    return f"10^{round(math.log10(n))}"
