"""A steady load of fills and invalidations: the server's share of a core, and how late messages are."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.cpu import cpu_seconds
from benchmarks.scale.crowd import Address, Crowd, crowd
from benchmarks.scale.fake_listener import Behaviour
from benchmarks.scale.operations import Writer, new_keys
from servease_appt.cache import connect
from servease_appt.testing.servers import EmbeddedValkey

FILL_THREADS = 4


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
    """Run the load against so many listeners, with tracking messages on or off."""
    with connect(server.url(address.database), timeout_s=30.0) as client:
        writer = Writer.of(client, address.prefix)
        with crowd(address, listeners, tracking=tracking) as fakes:
            writer.wait_for_listeners(listeners)
            return _run(server.pid, writer, fakes, load, tracking=tracking)


def _run(pid: int, writer: Writer, fakes: Crowd, load: Load, *, tracking: bool) -> Outcome:
    done = {"fills": 0, "invalidations": 0}
    until_s = time.monotonic() + load.seconds

    def fill() -> None:
        writer.fill(new_keys(1))

    def invalidate() -> None:
        writer.l2.invalidate(new_keys(1), str(time.monotonic_ns()))

    threads = [
        threading.Thread(target=_paced, args=(fill, load.fills_per_s / FILL_THREADS, until_s, done, "fills"))
        for _ in range(FILL_THREADS)
    ]
    threads.append(
        threading.Thread(
            target=_paced, args=(invalidate, load.invalidations_per_s, until_s, done, "invalidations")
        )
    )
    fakes.behave(Behaviour(timed=True))
    started_s, used_s = time.monotonic(), cpu_seconds([pid])
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed_s, used_s = time.monotonic() - started_s, cpu_seconds([pid]) - used_s
    counts = fakes.wait_for(messages=fakes.size * done["invalidations"])
    delays_ms = sorted(counts.delays_ms)
    return Outcome(
        listeners=fakes.size,
        tracking=tracking,
        core=used_s / elapsed_s,
        fills_per_s=done["fills"] / elapsed_s,
        invalidations_per_s=done["invalidations"] / elapsed_s,
        delay_p50_ms=delays_ms[len(delays_ms) // 2],
        delay_p99_ms=delays_ms[int(len(delays_ms) * 0.99)],
        bytes_per_s=counts.bytes / elapsed_s,
        deliveries_per_s=(counts.messages + counts.tracking) / elapsed_s,
    )


def _paced(work: Callable[[], object], per_s: float, until_s: float, done: dict[str, int], name: str) -> None:
    """Call `work` at a rate until the time is up; late calls are made at once, so that none is left out."""
    due_s = time.monotonic()
    while due_s < until_s and time.monotonic() < until_s + 5:
        time.sleep(max(0.0, due_s - time.monotonic()))
        work()
        done[name] += 1
        due_s += 1 / per_s
