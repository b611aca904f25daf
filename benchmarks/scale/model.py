"""A mean-value model of many workers on one Redis, calibrated by the measured costs. Computes in milliseconds.

Entities are read with Zipf popularity. Keys of similar popularity are one group, so that 10^8 entities are a few
hundred groups. For each group, the model takes reads, expiries, refreshes and invalidations as independent random
events, and computes how much of the time each tier holds the key. `validation.py` compares it with real caches.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

GROUPS_PER_DECADE = 40
ALONE = 20
"""The most popular keys, each of which is a group."""
JITTER_MEAN = 0.95
"""The mean TTL in L2 as a part of the longest: the jitter shortens it by up to a tenth."""
REFRESH_FROM = 0.7875
"""The mean age, as a part of the longest TTL, from which a read of L2 refreshes a key."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A service and its traffic. Rates are per second, times in seconds."""

    workers: int
    entities: int
    pages_per_worker: float = 10.0
    keys_per_page: int = 60
    zipf: float = 1.0
    invalidations: float = 50.0
    l1_ttl_s: float = 10.0
    l1_maxsize: int = 10_000
    l2_ttl_s: float = 300.0
    stale_s: float = 3600.0
    tracking: bool = True
    workers_per_listener: int = 1
    """More than 1: one listener on each host feeds its workers, which no version of the cache does."""

    @property
    def reads(self) -> float:
        """Keys read by all workers."""
        return self.workers * self.pages_per_worker * self.keys_per_page

    @property
    def listeners(self) -> int:
        """Connections that receive messages."""
        return math.ceil(self.workers / self.workers_per_listener)


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor time of Redis in µs: constant parts, and parts for each listener; bytes of memory and messages."""

    fill_us: float
    tracking_us: float
    invalidation_us: float
    message_us: float
    read_us: float
    read_key_us: float
    heartbeat_us: float
    value_bytes: float
    copy_bytes: float
    tracking_bytes: float
    message_bytes: float

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> "Costs":
        """Read the costs from the results of the measurement."""
        fits, costs = measured["fits"], measured["costs"]
        one, sixty = fits["read from L2"]["a_us"], fits["read of 60 keys from L2"]["a_us"]
        per_listener = {
            name: costs[name][-1]["bytes_received"] / costs[name][-1]["listeners"]
            for name in ("fill", "invalidation of a key not stored")
        }
        return cls(
            fill_us=fits["fill"]["a_us"],
            tracking_us=fits["fill"]["b_us"],
            invalidation_us=fits["invalidation of a key not stored"]["a_us"],
            message_us=fits["invalidation of a key not stored"]["b_us"],
            read_us=one,
            read_key_us=max(0.0, (sixty - one) / 59),
            heartbeat_us=fits["heartbeats of a second"]["b_us"],
            value_bytes=measured["memory"]["value"],
            copy_bytes=measured["memory"]["copy"],
            tracking_bytes=per_listener["fill"],
            message_bytes=per_listener["invalidation of a key not stored"],
        )


@dataclass(slots=True)
class Outcome:
    """What the model says of a scenario. Rates are per second."""

    scenario: Scenario
    l1_hits: float
    """Share of all reads."""
    l2_hits: float
    """Share of all reads; the rest calls the services."""
    fills: float
    """Fills of L2: loads of readers and background refreshes."""
    refreshes: float
    reads_of_redis: float
    """MGETs."""
    messages: float
    redis_core: float
    """Share of one core."""
    network_bytes: float
    memory_bytes: float
    delay_ms: float
    """From an invalidation to the last worker's reception of its message, 99th percentile."""
    limits: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Tiers:
    """One group of keys: the share of reads that each tier answers, and what one key causes a second."""

    l1: float
    l2: float
    loads: float
    refreshes: float
    in_l2: float
    with_copy: float


def solve(scenario: Scenario, costs: Costs) -> Outcome:
    """Compute a scenario."""
    groups = list(popularity(scenario.entities, scenario.zipf))
    idle_s = _lru_idle_s(scenario, groups)
    l1 = l2 = loads = refreshes = stored = copies = 0.0
    for keys, share in groups:
        tiers = _tiers(scenario, share, idle_s)
        l1 += keys * share * tiers.l1
        l2 += keys * share * tiers.l2
        loads += keys * tiers.loads
        refreshes += keys * tiers.refreshes
        stored += keys * tiers.in_l2
        copies += keys * tiers.with_copy
    return _outcome(
        scenario, costs, l1=l1, l2=l2, loads=loads, refreshes=refreshes, stored=stored, copies=copies
    )


def hit_rates(scenario: Scenario) -> tuple[float, float]:
    """Return the shares of all reads that L1 and L2 answer."""
    groups = list(popularity(scenario.entities, scenario.zipf))
    idle_s = _lru_idle_s(scenario, groups)
    tiers = [(keys * share, _tiers(scenario, share, idle_s)) for keys, share in groups]
    return sum(part * tier.l1 for part, tier in tiers), sum(part * tier.l2 for part, tier in tiers)


def popularity(entities: int, zipf: float) -> Iterator[tuple[float, float]]:
    """Return groups of ranks: the number of keys, and the share of all reads that each of these keys has."""
    alone = min(ALONE, entities)
    groups = [(1.0, rank**-zipf) for rank in range(1, alone + 1)]
    if entities > alone:
        first, last = alone + 0.5, entities + 0.5
        steps = max(1, round(math.log10(last / first) * GROUPS_PER_DECADE))
        edges = [first * (last / first) ** (step / steps) for step in range(steps + 1)]
        groups += [(high - low, _integral(low, high, zipf) / (high - low)) for low, high in pairwise(edges)]
    total = sum(keys * weight for keys, weight in groups)
    return ((keys, weight / total) for keys, weight in groups)


def _integral(low: float, high: float, zipf: float) -> float:
    if math.isclose(zipf, 1.0):
        return math.log(high / low)
    return float((high ** (1 - zipf) - low ** (1 - zipf)) / (1 - zipf))


def _lru_idle_s(scenario: Scenario, groups: list[tuple[float, float]]) -> float:
    """Return the idle time after which L1 evicts an entry because it is full; infinity if it is never full."""

    def held(idle_s: float) -> float:
        return sum(keys * _l1_hits(scenario, share, idle_s) for keys, share in groups)

    if held(math.inf) <= scenario.l1_maxsize:
        return math.inf
    low, high = 0.0, scenario.l1_ttl_s
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if held(middle) < scenario.l1_maxsize else (low, middle)
    return (low + high) / 2


def _l1_hits(scenario: Scenario, share: float, idle_s: float) -> float:
    """Return the part of one worker's reads that L1 answers: also the part of the time in which it is held."""
    rate = scenario.pages_per_worker * scenario.keys_per_page * share
    invalidated = scenario.invalidations * share
    life_s = _mean_life_s(scenario.l1_ttl_s, invalidated)
    hits = rate * life_s
    if idle_s < scenario.l1_ttl_s:
        before_a_gap = math.expm1(min(700.0, rate * idle_s))
        hits = before_a_gap * -math.expm1(-hits / before_a_gap) if before_a_gap > 0 else 0.0
    return hits / (1 + hits)


def _mean_life_s(ttl_s: float, rate: float) -> float:
    """Return the mean time until an expiry or the first of random events, whichever is first."""
    return -math.expm1(-rate * ttl_s) / rate if rate * ttl_s > 1e-9 else ttl_s


def _tiers(scenario: Scenario, share: float, idle_s: float) -> _Tiers:
    reads, invalidated = scenario.reads * share, scenario.invalidations * share
    l1 = _l1_hits(scenario, share, idle_s)
    arrivals = reads * (1 - l1)
    ttl_s = scenario.l2_ttl_s * JITTER_MEAN
    until_refresh_s = scenario.l2_ttl_s * REFRESH_FROM
    refreshed = -math.expm1(-arrivals * (ttl_s - until_refresh_s))
    # Each refresh, which some read in the last part of the life starts, begins another life.
    lives_s = ttl_s + until_refresh_s * refreshed / max(1e-12, 1 - refreshed)
    stays_s = lives_s / (1 + invalidated * lives_s) if refreshed > 0.5 else _mean_life_s(lives_s, invalidated)
    hits = arrivals * stays_s
    l2 = hits / (1 + hits)
    copy_s = _mean_life_s(stays_s + scenario.stale_s, invalidated)
    return _Tiers(
        l1=l1,
        l2=(1 - l1) * l2,
        loads=arrivals * (1 - l2),
        refreshes=l2 * refreshed / until_refresh_s * math.exp(-invalidated * until_refresh_s),
        in_l2=l2,
        with_copy=arrivals * copy_s / (1 + arrivals * copy_s),
    )


def _outcome(
    scenario: Scenario,
    costs: Costs,
    *,
    l1: float,
    l2: float,
    loads: float,
    refreshes: float,
    stored: float,
    copies: float,
) -> Outcome:
    fills, listeners = loads + refreshes, scenario.listeners
    misses = 1 - l1
    pages = scenario.workers * scenario.pages_per_worker
    mgets = pages * -math.expm1(scenario.keys_per_page * math.log1p(-min(misses, 1 - 1e-12)))
    tracking = fills * listeners if scenario.tracking else 0.0
    messages = tracking + scenario.invalidations * listeners
    core = (
        fills * costs.fill_us
        + tracking * costs.tracking_us
        + scenario.invalidations * (costs.invalidation_us + listeners * costs.message_us)
        + mgets * costs.read_us
        + scenario.reads * misses * costs.read_key_us
        + listeners * costs.heartbeat_us
    ) / 1e6
    network = tracking * costs.tracking_bytes + scenario.invalidations * listeners * costs.message_bytes
    network += scenario.reads * misses * VALUE_BYTES_SENT + 2 * listeners * HEARTBEAT_BYTES
    outcome = Outcome(
        scenario=scenario,
        l1_hits=l1,
        l2_hits=l2,
        fills=fills,
        refreshes=refreshes,
        reads_of_redis=mgets,
        messages=messages,
        redis_core=core,
        network_bytes=network,
        memory_bytes=stored * costs.value_bytes + copies * costs.copy_bytes,
        delay_ms=delay_ms(scenario, costs, fills, core),
    )
    outcome.limits = limits(outcome)
    return outcome


VALUE_BYTES_SENT = 130
HEARTBEAT_BYTES = 400
"""Measured: the answer to INFO REPLICATION is most of it."""
HALF_BUSY = 0.5
GIGABIT_BYTES = 110e6
LARGE_BYTES = 64e9


def limits(outcome: Outcome) -> list[str]:
    """Return the limits of one ordinary server that a scenario passes, the most exceeded first."""
    shares = {
        "Redis' core": outcome.redis_core / HALF_BUSY,
        "network": outcome.network_bytes / GIGABIT_BYTES,
        "memory": outcome.memory_bytes / LARGE_BYTES,
    }
    return [name for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share > 1]


def delay_ms(scenario: Scenario, costs: Costs, fills: float, core: float) -> float:
    """Return the 99th percentile of the time in which a message waits for Redis and is sent to every listener.

    A queue with random arrivals and one server, whose waiting time falls off exponentially.
    """
    if core >= 1:
        return math.inf
    listeners = scenario.listeners
    fill_us = costs.fill_us + (listeners * costs.tracking_us if scenario.tracking else 0.0)
    message_us = costs.invalidation_us + listeners * costs.message_us
    second_moment = fills * fill_us**2 + scenario.invalidations * message_us**2
    mean_wait_us = second_moment / 1e6 / (2 * (1 - core))
    wait_us = mean_wait_us / core * max(0.0, math.log(100 * core)) if core > 0 else 0.0
    return (wait_us + message_us) / 1000
