"""What one operation costs the server: processor time, messages, bytes and commands, with N fake listeners.

Processor time is what the server's threads used, from the kernel, less what the heartbeats of the same time used.
INFO's `commandstats` would leave out the sending of messages, which is most of it.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

from benchmarks.contenders import load_reference
from benchmarks.cpu import cpu_seconds
from benchmarks.redis_commands import command_counts
from benchmarks.scale.crowd import Crowd
from benchmarks.scale.fake_listener import Behaviour
from servease_appt.cache.breaker import Breaker
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.protocol import Fill, LeaseState
from servease_appt.cache.l2.script_calls import script_source
from servease_appt.cache.l2.single_server import SingleServerL2
from servease_appt.references.entities import CODECS

TTL_MS = 600_000
STALE_MS = 3_600_000
LEASE_MS = 2_500
SOURCE = "bench:1:0"
OF_LISTENERS = frozenset({"get", "hset", "unlink"})
"""Commands of heartbeats and registrations."""
_encode = {codec.name: codec.encode for codec in CODECS}
_numbers = itertools.count(1)


def new_keys(count: int) -> list[str]:
    """Return customers that were not named before."""
    return [f"customer_00000000-0000-4000-8000-{next(_numbers):012x}" for _ in range(count)]


def one_by_one(operation: Callable[[list[str]], object], keys: Iterable[str]) -> None:
    """Call an operation once for each key."""
    for key in keys:
        operation([key])


def payload_of(key: str) -> bytes:
    """Return the value of a key as the service stores it."""
    return _encode[key.partition("_")[0]](load_reference(key, 0.0))


class Writer:
    """The commands of one worker, sent by the L2 of the service with its scripts."""

    def __init__(self, client: Redis, keys: KeySpace) -> None:
        self.client = client
        self.keys = keys
        self.l2 = SingleServerL2(client, keys, Breaker(threshold=1_000_000, cool_down_s=1.0))

    @classmethod
    def of(cls, client: Redis, prefix: str) -> "Writer":
        """Return a writer for the keys of a prefix."""
        return cls(client, KeySpace(prefix))

    def fill(self, keys: list[str], *, stale_ms: int = STALE_MS) -> None:
        """Do what a read does that finds the keys in neither tier: MGET, leases, fill."""
        self.l2.read(keys)
        self._store(keys, refresh=False, stale_ms=stale_ms)

    def refresh(self, keys: list[str]) -> None:
        """Do what a background refresh does: leases, fill."""
        self._store(keys, refresh=True, stale_ms=STALE_MS)

    def mark_absent(self, keys: list[str]) -> None:
        """Store that the source has no such values."""
        leases = self.l2.acquire(keys, SOURCE, LEASE_MS)
        self.l2.fill(
            [Fill(key, lease.payload, None, TTL_MS, 0) for key, lease in zip(keys, leases, strict=True)]
        )

    def invalidate(self, keys: list[str]) -> None:
        """Invalidate keys as a worker does."""
        self.l2.invalidate(keys, SOURCE)

    def publish(self, keys: list[str]) -> None:
        """Publish each key as any Redis client may."""
        for key in keys:
            self.client.publish(self.keys.channel, key)

    def _store(self, keys: list[str], *, refresh: bool, stale_ms: int) -> None:
        leases = self.l2.acquire(keys, SOURCE, LEASE_MS, refresh=refresh)
        if any(lease.state is not LeaseState.GRANTED for lease in leases):
            raise RuntimeError("a lease was not granted")
        fills = [
            Fill(key, lease.payload, payload_of(key), TTL_MS, stale_ms)
            for key, lease in zip(keys, leases, strict=True)
        ]
        if not all(self.l2.fill(fills)):
            raise RuntimeError("a fill was refused")


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one operation with N listeners."""

    listeners: int
    cpu_us: float
    messages: float
    tracking: float
    mgets: float
    scripts: float
    bytes_received: float
    """By all listeners together."""
    commands: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return the cost as a JSON object."""
        return {
            "listeners": self.listeners,
            "cpu_us": round(self.cpu_us, 2),
            "messages": round(self.messages, 2),
            "tracking": round(self.tracking, 2),
            "mgets": round(self.mgets, 2),
            "scripts": round(self.scripts, 3),
            "bytes_received": round(self.bytes_received, 1),
            "commands": {name: round(n, 2) for name, n in self.commands.items() if round(n, 2) > 0},
        }


@dataclass(frozen=True, slots=True)
class Bench:
    """One server with its listeners."""

    pid: int
    writer: Writer
    listeners: Crowd
    idle_us_per_s: float
    """Processor time of the server without operations: heartbeats and registrations, µs a second."""

    def measure(
        self,
        operation: Callable[[list[str]], object],
        *,
        calls: int,
        keys_per_call: int = 1,
        messages: int = 0,
        tracking: int = 0,
        behaviour: Behaviour | None = None,
        prepare: Callable[[list[str]], object] | None = None,
        one_by_one: bool = False,
    ) -> Cost:
        """Return the mean cost of `calls` operations, each on keys of its own.

        `messages` and `tracking` say what one operation sends to each listener: the measurement waits for them, at
        the end or with `one_by_one` after each operation.
        """
        size = self.listeners.size
        batches = [new_keys(keys_per_call) for _ in range(calls)]
        if prepare is not None:
            for keys in batches:
                prepare(keys)
            self._let_arrive()
        self.listeners.behave(behaviour or Behaviour())
        commands = command_counts(self.writer.client)
        started_s, used_s = time.monotonic(), cpu_seconds([self.pid])
        for number, keys in enumerate(batches, 1):
            operation(keys)
            if one_by_one or number == calls:
                self.listeners.wait_for(messages=messages * size * number, tracking=tracking * size * number)
        elapsed_s, used_s = time.monotonic() - started_s, cpu_seconds([self.pid]) - used_s
        after = command_counts(self.writer.client)
        counts = self.listeners.counts()
        return Cost(
            listeners=size,
            cpu_us=(used_s * 1e6 - self.idle_us_per_s * elapsed_s) / calls,
            messages=counts.messages / calls,
            tracking=counts.tracking / calls,
            mgets=counts.mgets / calls,
            scripts=counts.scripts / calls,
            bytes_received=counts.bytes / calls,
            commands={
                name: (n - commands.get(name, 0)) / calls
                for name, n in after.items()
                if name not in OF_LISTENERS and n > commands.get(name, 0)
            },
        )

    def _let_arrive(self) -> None:
        """Wait until the listeners have received what was sent before: nothing has arrived for 0.1 s."""
        seen = self.listeners.counts()
        while True:
            time.sleep(0.1)
            now = self.listeners.counts()
            if (now.tracking, now.messages) == (seen.tracking, seen.messages):
                return
            seen = now


def idle_us_per_s(pid: int, seconds: float) -> float:
    """Return the processor time of the server without operations, in µs a second."""
    used_s = cpu_seconds([pid])
    time.sleep(seconds)
    return (cpu_seconds([pid]) - used_s) * 1e6 / seconds


def invalidate_sha(client: Redis) -> str:
    """Load the script of an invalidation, which listeners run that carry out a plain PUBLISH."""
    return client.script_load(script_source("invalidate"))


def measure_operations(bench: Bench, calls: int) -> dict[str, Cost]:
    """Measure every operation once, with as many `calls` of the cheap ones."""
    writer = bench.writer
    few = max(10, calls // 4)
    return {
        "read from L2": bench.measure(writer.l2.read, calls=calls, prepare=writer.fill),
        "read of 60 keys from L2": bench.measure(
            writer.l2.read, calls=few, keys_per_call=60, prepare=writer.fill
        ),
        "fill": bench.measure(writer.fill, calls=calls, tracking=1),
        "fill of 60 keys": bench.measure(writer.fill, calls=few, keys_per_call=60, tracking=1),
        "refresh": bench.measure(
            writer.refresh, calls=calls, tracking=1, prepare=writer.fill, behaviour=Behaviour(verify=True)
        ),
        "invalidation": bench.measure(
            writer.invalidate, calls=calls, messages=1, tracking=1, prepare=writer.fill
        ),
        "invalidation of a key not stored": bench.measure(writer.invalidate, calls=calls, messages=1),
        "plain PUBLISH": _measure_plain_publish(bench, few),
    }


def _measure_plain_publish(bench: Bench, calls: int) -> Cost:
    """Measure requests by other clients, one at a time, each carried out by a listener."""
    electing = Behaviour(elect=True, invalidate_sha=invalidate_sha(bench.writer.client))
    bench.listeners.behave(electing)
    bench.writer.invalidate(new_keys(1))  # tells every listener the sequence
    bench.listeners.wait_for(messages=bench.listeners.size)
    return bench.measure(bench.writer.publish, calls=calls, messages=2, one_by_one=True, behaviour=electing)
