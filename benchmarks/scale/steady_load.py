"""A steady load of fills and invalidations: the server's share of a core, and how late messages are."""

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.cpu import cpu_seconds
from benchmarks.scale.crowd import FEW, Address, Crowd, crowd
from benchmarks.scale.fake_listener import Behaviour
from benchmarks.scale.operations import Writer, new_keys
from servease_appt.cache import connect
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

FILL_THREADS = 4
LATEST_S = 2.0


@dataclass(frozen=True, slots=True)
class Load:
    """Fills and invalidations a second, for some seconds."""

    fills_per_s: int
    invalidations_per_s: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the load has cost.

    Attributes:
        core: the share of a core that the server used.
        fills_per_s: what was reached.
        delay_p50_ms: from the call of an invalidation to a listener's reception of its message.
        bytes_per_s: received by all listeners together.
    """

    listeners: int
    tracking: bool
    core: float
    fills_per_s: float
    invalidations_per_s: float
    delay_p50_ms: float
    delay_p99_ms: float
    bytes_per_s: float
    deliveries_per_s: float

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as a JSON object."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def run_load(
    server: EmbeddedValkey, address: Address, listeners: int, load: Load, *, tracking: bool
) -> Outcome:
    """Run the load against so many listeners, with tracking messages on or off.

    Delays are taken by a few of the listeners, in a process of their own: a process that reads a thousand sockets
    one after the other would be measured instead. These few subscribe last, so that Redis serves them last.
    """
    timed = min(FEW, listeners)
    with connect(server.url(address.database), timeout_s=30.0) as client:
        writer = Writer.of(client, address.prefix)
        with ExitStack() as stack:
            crowds = []
            if listeners > timed:
                crowds.append(stack.enter_context(crowd(address, listeners - timed, tracking=tracking)))
            crowds.append(stack.enter_context(crowd(address, timed, tracking=tracking)))
            return _run(server, address, writer, crowds, load, tracking=tracking)


def _run(
    server: EmbeddedValkey,
    address: Address,
    writer: Writer,
    crowds: list[Crowd],
    load: Load,
    *,
    tracking: bool,
) -> Outcome:
    context = multiprocessing.get_context("spawn")
    begin, filled = context.Event(), context.Value("q", 0)
    filler = context.Process(
        target=_fill, args=(server.url(address.database), address.prefix, load, begin, filled), daemon=True
    )
    filler.start()
    for fakes in crowds:
        last = fakes is crowds[-1]
        fakes.behave(Behaviour(timed=last, lazy=not last))
    if not wait_until(lambda: filled.value < 0, timeout_s=30):
        raise RuntimeError("the process that fills has not started")
    begin.set()
    started_s, used_s = time.monotonic(), cpu_seconds([server.pid])
    invalidations = _paced(
        lambda: writer.l2.invalidate(new_keys(1), str(time.monotonic_ns())),
        load.invalidations_per_s,
        started_s + load.seconds,
    )
    filler.join()
    if filler.exitcode:
        raise RuntimeError("the process that fills has failed")
    elapsed_s, used_s = time.monotonic() - started_s, cpu_seconds([server.pid]) - used_s
    counts = [fakes.wait_for(messages=fakes.size * invalidations) for fakes in crowds]
    delays_ms = sorted(counts[-1].delays_ms)
    return Outcome(
        listeners=sum(fakes.size for fakes in crowds),
        tracking=tracking,
        core=used_s / elapsed_s,
        fills_per_s=filled.value / elapsed_s,
        invalidations_per_s=invalidations / elapsed_s,
        delay_p50_ms=delays_ms[len(delays_ms) // 2],
        delay_p99_ms=delays_ms[int(len(delays_ms) * 0.99)],
        bytes_per_s=sum(one.bytes for one in counts) / elapsed_s,
        deliveries_per_s=sum(one.messages + one.tracking for one in counts) / elapsed_s,
    )


def _fill(url: str, prefix: str, load: Load, begin: Any, filled: Any) -> None:
    """Fill new keys from several threads of this process; `filled` is -1 once it is ready, then their number."""
    with connect(url, timeout_s=30.0) as client, ThreadPoolExecutor(FILL_THREADS) as threads:
        writer = Writer.of(client, prefix)
        own = f"customer_{os.getpid():08x}-0000-4000-8000-"
        numbers = itertools.count()
        filled.value = -1
        begin.wait()
        until_s = time.monotonic() + load.seconds
        running = [
            threads.submit(
                _paced,
                lambda: writer.fill([f"{own}{next(numbers):012x}"]),
                load.fills_per_s / FILL_THREADS,
                until_s,
            )
            for _ in range(FILL_THREADS)
        ]
        filled.value = sum(thread.result() for thread in running)


def _paced(work: Callable[[], object], per_s: float, until_s: float) -> int:
    """Call `work` at a rate until the time is up; return how often. Late calls are made at once."""
    due_s, calls = time.monotonic(), 0
    while due_s < until_s and time.monotonic() < until_s + LATEST_S:
        time.sleep(max(0.0, due_s - time.monotonic()))
        work()
        calls += 1
        due_s += 1 / per_s
    return calls
