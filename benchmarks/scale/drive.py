"""Fills and invalidations at a steady rate, by two processes: what they sent, and what the server used."""

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.cpu import cpu_seconds
from benchmarks.redis_commands import command_counts
from benchmarks.scale.crowd import Address
from benchmarks.scale.operations import Writer, new_keys
from servease_appt.cache import connect
from servease_appt.testing.servers import EmbeddedValkey

FILL_THREADS = 4
LATEST_S = 2.0


@dataclass(frozen=True, slots=True)
class Load:
    """Fills and invalidations a second, for some seconds."""

    fills_per_s: float
    invalidations_per_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Driven:
    """What was sent, and the processor time that it took.

    Attributes:
        server_s: processor time of the server.
        driver_s: processor time of the two processes that sent the load.
        watched_s: processor time of the processes that were to be watched.
        beats: heartbeats that the server has received.
        fills: their number.
        returned_ns: when each invalidation had returned, on the monotonic clock.
    """

    elapsed_s: float
    server_s: float
    driver_s: float
    watched_s: float
    beats: int
    fills: int
    returned_ns: list[int]

    @property
    def invalidations(self) -> int:
        """The number of invalidations."""
        return len(self.returned_ns)


def drive(
    server: EmbeddedValkey,
    address: Address,
    writer: Writer,
    load: Load,
    *,
    keys: Iterator[str] | None = None,
    watched: Sequence[int] = (),
) -> Driven:
    """Send the load, and return when it is over; messages may still be under way.

    `keys` are those that are invalidated, enough of them; None: new ones, which nobody holds. The source of each
    message is the time at which it was sent, which timed fake listeners read. `watched` are ids of processes.
    """
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    filler = context.Process(
        target=_fill, args=(theirs, server.url(address.database), address.prefix, load), daemon=True
    )
    filler.start()
    theirs.close()
    returned_ns: list[int] = []

    def invalidate() -> None:
        key = [next(keys)] if keys is not None else new_keys(1)
        writer.l2.invalidate(key, str(time.monotonic_ns()))
        returned_ns.append(time.monotonic_ns())

    def used() -> tuple[float, ...]:
        beats = command_counts(writer.client).get("unlink", 0)
        return cpu_seconds([server.pid]), time.process_time(), cpu_seconds(watched), beats

    pipe.recv()
    before, started_s = used(), time.monotonic()
    pipe.send("begin")
    _paced(invalidate, load.invalidations_per_s, started_s + load.seconds)
    fills, filler_s = pipe.recv()
    elapsed_s = time.monotonic() - started_s
    server_s, own_s, watched_s, beats = (now - then for now, then in zip(used(), before, strict=True))
    pipe.close()
    filler.join()
    return Driven(elapsed_s, server_s, own_s + filler_s, watched_s, int(beats), fills, returned_ns)


def _fill(pipe: Connection, url: str, prefix: str, load: Load) -> None:
    """Fill new keys from several threads of this process; reply with their number and the processor time."""
    with connect(url, timeout_s=30.0) as client, ThreadPoolExecutor(FILL_THREADS) as threads:
        writer = Writer.of(client, prefix)
        own = f"customer_{os.getpid():08x}-0000-4000-8000-"
        numbers = itertools.count()
        pipe.send("ready")
        pipe.recv()
        until_s, used_s = time.monotonic() + load.seconds, time.process_time()
        running = [
            threads.submit(
                _paced,
                lambda: writer.fill([f"{own}{next(numbers):012x}"]),
                load.fills_per_s / FILL_THREADS,
                until_s,
            )
            for _ in range(FILL_THREADS)
        ]
        fills = sum(thread.result() for thread in running)
        pipe.send((fills, time.process_time() - used_s))


def _paced(work: Callable[[], object], per_s: float, until_s: float) -> int:
    """Call `work` at a rate until the time is up; return how often. Late calls are made at once."""
    due_s, calls = time.monotonic(), 0
    while due_s < until_s and time.monotonic() < until_s + LATEST_S:
        time.sleep(max(0.0, due_s - time.monotonic()))
        work()
        calls += 1
        due_s += 1 / per_s
    return calls
