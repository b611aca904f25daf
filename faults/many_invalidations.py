"""Very many invalidations with the cache alone: processes with a cache each, one Valkey, and no HTTP.

Each process announces newer versions of its own keys and reads what the others announced, again and again until
it shows the new version. All subscriptions are killed every few seconds, so messages are lost; for that reason the
bound for a stale read is 2 s.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any, NamedTuple

from redis import Redis

from faults import broken
from faults.board import LAGS_MS, Board, Tally
from servease_appt.cache import CachePolicy, CacheUnavailable, Codec, TwoTierCache, connect
from servease_appt.testing.servers import EmbeddedValkey

BOUND_MS = 2000.0
PROCESSES = 3
KEYS = 384
BATCH = 6
"""Keys of one call, at most; each call draws its number."""
KILL_EVERY_S = 10.0
PREFIX = "many"
_FOLLOW_LIMIT = 64
_FAR_BEHIND = 256
_RANDOM_READS = 4
_SLOW_LOADS = 0.02
_SLOW_LOAD_S = 0.003
_REPORT_EVERY_S = 30.0
_JOIN_LIMIT_S = 30.0
_STEP_S = 0.1
_POLICY = CachePolicy(ttl_s=60, l1_ttl_s=30, load_timeout_s=5.0)


class Value(NamedTuple):
    """A key and its version."""

    key: int
    version: int


def _encode(value: Value) -> bytes:
    return b"%d:%d" % value


def _decode(payload: bytes, _id: str) -> Value:
    key, _, version = payload.partition(b":")
    return Value(int(key), int(version))


Cache = TwoTierCache[Value]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The counts of all processes. All of the `violations` must be 0.

    Attributes:
        invalidations: keys that were invalidated, in `calls` calls.
        stale: reads that were called after an invalidation had returned and showed an older version.
        lags: number of stale reads by the upper end of their lag in milliseconds.
        kills: how often all subscriptions were killed.
    """

    processes: int
    invalidations: int
    calls: int
    reads: int
    stale: int
    lags: dict[str, int]
    longest_ms: float
    kills: int
    refused: int
    seconds: float
    violations: dict[str, int]

    @property
    def kept(self) -> bool:
        """Return whether no promise was broken."""
        return not any(self.violations.values())

    def text(self) -> str:
        """Return the counts as a paragraph."""
        lags = ", ".join(
            f"{count:,} up to {top} ms" if top != "inf" else f"{count:,} longer"
            for top, count in self.lags.items()
        )
        broken = ", ".join(f"{count} {what}" for what, count in self.violations.items())
        return (
            f"{self.processes} processes invalidated {self.invalidations:,} keys in {self.calls:,} calls within"
            f" {self.seconds:.0f} s, with {self.reads:,} reads. All subscriptions were killed {self.kills:,}"
            f" times, and {self.refused:,} calls had to be repeated. Found: {broken}. {self.stale:,} reads were"
            f" stale at all, by the time since the invalidation's return: {lags or 'none'}; the longest"
            f" {self.longest_ms:.0f} ms."
        )

    def as_json(self) -> dict[str, Any]:
        """Return every field."""
        return asdict(self)


class Worker:
    """One process with a cache. For one thread."""

    def __init__(self, number: int, board: Board, tally: Tally, cache: Cache, batch: int) -> None:
        self._number = number
        self._board = board
        self._tally = tally
        self._cache = cache
        self._batch = batch
        self._own = [key for key in range(board.keys) if key % board.writers == number]
        self._waiting: set[int] = set()
        self._shown = [0] * board.keys

    def run(self) -> None:
        """Announce and read until the run ends."""
        while not self._board.stopping.value:
            if self._board.behind(self._number) < _FAR_BEHIND:
                self._announce(random.sample(self._own, random.randint(1, self._batch)))
            self._waiting.update(self._board.news(self._number, _FOLLOW_LIMIT))
            looked = [*self._waiting, *random.sample(range(self._board.keys), _RANDOM_READS)]
            self._waiting -= self._read(list(dict.fromkeys(looked)), own=False)

    def _announce(self, keys: list[int]) -> None:
        for key in keys:
            self._board.bump(key)
        while True:
            try:
                self._cache.invalidate(_name(key) for key in keys)
                break
            except CacheUnavailable:
                self._tally.add("refused")
                if self._board.stopping.value:
                    return
        self._board.acknowledge(keys)
        self._tally.add("calls")
        self._read(keys, own=True)

    def _read(self, keys: list[int], *, own: bool) -> set[int]:
        """Read keys and judge what was shown. Returns the keys that showed all that was acknowledged."""
        acknowledged = [self._board.acknowledged(key) for key in keys]
        t_call = time.monotonic_ns()
        values = self._cache.get_many([_name(key) for key in keys], self._load).values
        fresh = set()
        for key, newest in zip(keys, acknowledged, strict=True):
            value = values[_name(key)]
            if value is None:
                continue
            self._tally.add("reads")
            lag_ns = self._board.lag_ns(key, value.version, newest, t_call)
            if lag_ns:
                self._tally.note_lag(lag_ns, int(BOUND_MS * 1e6))
                self._tally.add("own", own or key % self._board.writers == self._number)
            else:
                fresh.add(key)
            self._tally.add("back", value.version < self._shown[key])
            self._shown[key] = max(self._shown[key], value.version)
        return fresh

    def _load(self, name: str, _timeout_s: float) -> Value:
        key = int(name.partition("_")[2])
        value = Value(key, self._board.live(key))
        if random.random() < _SLOW_LOADS:
            time.sleep(random.uniform(0, _SLOW_LOAD_S))
        return value


def _name(key: int) -> str:
    return f"value_{key}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process is to do.

    Attributes:
        number: of the process.
        url: of Redis.
        batch: keys of one invalidation, at most.
        without: the name of a protection that the cache lacks; None: the cache as it is.
    """

    number: int
    url: str
    batch: int
    without: str | None


def _work(plan: Plan, board: Board, tally: Tally) -> None:
    if plan.without is not None:
        broken.apply(plan.without)
    client, codec = connect(plan.url, timeout_s=5.0), Codec("value", _encode, _decode)
    cache: Cache = TwoTierCache(client, (codec,), prefix=PREFIX, policy=_POLICY, owns_client=True)
    try:
        Worker(plan.number, board, tally, cache, plan.batch).run()
    finally:
        cache.close()


def measure(
    wanted: int,
    *,
    batch: int = BATCH,
    processes: int = PROCESSES,
    limit_s: float = float("inf"),
    kill_every_s: float = KILL_EVERY_S,
    without: str | None = None,
) -> Outcome:
    """Invalidate until `wanted` keys were invalidated, and count what was seen.

    Args:
        wanted: number of invalidations, counted by key.
        batch: keys of one invalidation, at most.
        processes: number of processes, each with a cache.
        limit_s: seconds after which the run ends in any case.
        kill_every_s: seconds between two kills of all subscriptions.
        without: the name of a protection that each cache lacks; None: the cache as it is.
    """
    context = get_context("spawn")
    board = Board(context, KEYS, processes)
    tallies = [Tally(context) for _ in range(processes + 1)]
    with EmbeddedValkey() as valkey:
        plans = [Plan(number, valkey.url(), batch, without) for number in range(processes)]
        running = [
            context.Process(target=_work, args=(plan, board, tallies[plan.number]), daemon=True)
            for plan in plans
        ]
        for process in running:
            process.start()
        watch = Watch(board, tallies, kill_every_s)
        try:
            with Redis.from_url(valkey.url()) as client:
                while board.invalidations() < wanted and watch.seconds < limit_s:
                    if not all(process.is_alive() for process in running):
                        raise RuntimeError("a process of the run has ended")
                    watch.step(client)
                    time.sleep(_STEP_S)
        finally:
            outcome = watch.outcome()
            board.stopping.value = 1
            for process in running:
                process.join(_JOIN_LIMIT_S)
    return outcome


class Watch:
    """Kills the subscriptions now and then, looks into Redis, and reports. For one thread."""

    def __init__(self, board: Board, tallies: list[Tally], kill_every_s: float) -> None:
        self._board = board
        self._tallies = tallies
        self._kill_every_s = kill_every_s
        self._began_s = time.monotonic()
        self._kills = 0
        self._reports = 0

    @property
    def seconds(self) -> float:
        """Return the seconds since the begin."""
        return time.monotonic() - self._began_s

    def step(self, client: Any) -> None:
        """Do what is due."""
        if self.seconds >= (self._kills + 1) * self._kill_every_s:
            client.client_kill_filter(_type="pubsub")
            self._kills += 1
        if self.seconds >= (self._reports + 1) * _REPORT_EVERY_S:
            self._reports += 1
            print(f"{time.strftime('%H:%M:%S')} {self.outcome().as_json()}", file=sys.stderr, flush=True)
        self._look_into_l2(client)

    def _look_into_l2(self, client: Any) -> None:
        """Count values in Redis that are older than an invalidation that had returned before the look."""
        keys = range(self._board.keys)
        acknowledged = [self._board.acknowledged(key) for key in keys]
        payloads = client.mget([f"{PREFIX}:{_name(key)}" for key in keys])
        for newest, payload in zip(acknowledged, payloads, strict=True):
            if payload is not None and _decode(payload, "").version < newest:
                self._tallies[-1].add("l2")

    def outcome(self) -> Outcome:
        """Add up what the processes have counted so far."""
        counts = [tally.as_dict() for tally in self._tallies]
        total = {field: sum(one[field] for one in counts) for field in Tally.FIELDS}
        lags = [sum(tally.lags[n] for tally in self._tallies) for n in range(len(LAGS_MS))]
        return Outcome(
            processes=self._board.writers,
            invalidations=self._board.invalidations(),
            calls=total["calls"],
            reads=total["reads"],
            stale=total["stale"],
            lags={f"{top:g}": count for top, count in zip(LAGS_MS, lags, strict=True) if count},
            longest_ms=max(one["longest_ns"] for one in counts) / 1e6,
            kills=self._kills,
            refused=total["refused"],
            seconds=self.seconds,
            violations={
                f"reads stale beyond {BOUND_MS:g} ms": total["late"],
                "stale reads in the invalidating process": total["own"],
                "versions going back": total["back"],
                "old values in Redis": total["l2"],
            },
        )
