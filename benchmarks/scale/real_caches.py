"""Many real caches in a few processes, each with its own listener thread and connection, controlled over pipes.

Every message that a listener has handled is noted with its time: L1 has dropped the key by then. The messages of
one sender arrive in their order, so the n-th time of a cache belongs to the n-th invalidation.
"""

import multiprocessing
import os
import resource
import signal
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.contenders import load_reference
from benchmarks.scale.crowd import FEW, Address
from servease_appt.cache import CachePolicy, Event, Mode, Tier, TwoTierCache, connect
from servease_appt.references.entities import CODECS, Reference
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import HOST

PROCESSES = 4
NICE = 10
"""The crowd's processes are scheduled after the server, which has a core of its own where it matters."""
START_TIMEOUT_S = 60.0
HANDLED_TIMEOUT_S = 60.0
SAMPLE_S = 0.25
Cache = TwoTierCache[Reference]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the caches of one process have added to it."""

    caches: int
    threads: int
    descriptors: int
    resident_kb: int


@dataclass(frozen=True, slots=True)
class Handled:
    """What the caches of one process have handled.

    Attributes:
        times_ns: for each cache, when it had handled each message, on the monotonic clock.
        untrusted: how often a cache was found whose L1 was not trusted, of `samples`.
        kept: keys that were invalidated and that some L1 still holds.
    """

    times_ns: list[bytes]
    untrusted: int
    samples: int
    kept: int


class RealCaches:
    """The caches of one run. The last of the processes has those that subscribed last. For one thread."""

    def __init__(self, pipes: list[Connection], pids: list[int], footprints: list[Footprint]) -> None:
        self._pipes = pipes
        self.pids = pids
        self.footprints = footprints

    @property
    def size(self) -> int:
        """The number of caches."""
        return sum(one.caches for one in self.footprints)

    def hold(self, keys: Sequence[str]) -> None:
        """Have every L1 hold these keys, which L2 has, and forget what was handled before."""
        self._ask(("hold", list(keys)))

    def handled(self, invalidated: Sequence[str]) -> list[Handled]:
        """Wait until every cache has handled these invalidations of single keys; return one answer a process."""
        answers: list[Handled] = self._ask(("handled", list(invalidated)))
        return answers

    def _ask(self, question: tuple[str, Any]) -> list[Any]:
        for pipe in self._pipes:
            pipe.send(question)
        return [pipe.recv() for pipe in self._pipes]


@contextmanager
def real_caches(address: Address, size: int, *, tracking: bool) -> Iterator[RealCaches]:
    """Start so many caches and wait until all are trusted; end them at the end of the block.

    With more than `FEW`, that many are in a process of their own that is started last and has a normal priority.
    """
    context = multiprocessing.get_context("spawn")
    last = min(FEW, size)
    crowd = size - last
    shares = [crowd // PROCESSES + (number < crowd % PROCESSES) for number in range(PROCESSES)]
    pipes: list[Connection] = []
    with ExitStack() as stack:
        pids, footprints = [], []
        for share, nice in [*((share, NICE) for share in shares if share), (last, 0)]:
            ours, theirs = context.Pipe()
            arguments = (theirs, address, share, nice, tracking)
            process = context.Process(target=_run, args=arguments, daemon=True)
            process.start()
            theirs.close()
            stack.callback(process.join, 30)
            pipes.append(ours)
            stack.callback(ours.close)  # which ends the process
            footprints.append(ours.recv())
            pids.append(process.pid or 0)
        yield RealCaches(pipes, pids, footprints)


class _Times:
    """A recorder that notes when a message was handled. The event is counted after L1 has dropped the keys."""

    def __init__(self) -> None:
        self.ns = array("q")

    def count(self, tier: Tier, event: Event, entity: str, n: int = 1) -> None:  # noqa: ARG002 - see `Recorder`
        """See `Recorder.count`."""
        if tier is Tier.CHANNEL and event is Event.INVALIDATION:
            self.ns.extend([time.monotonic_ns()] * n)


def _run(pipe: Connection, address: Address, size: int, nice: int, tracking: bool) -> None:
    """Run the caches of one process until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(nice)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, size * 6 + 256)), hard))
    url = f"redis://{HOST}:{address.port}/{address.database}"
    policy = CachePolicy(ttl_s=3600, l1_ttl_s=3600, tracking=tracking)
    with connect(url, timeout_s=30.0) as client, ExitStack() as stack:
        client.ping()
        before = _used()
        recorders = [_Times() for _ in range(size)]
        caches = []
        for recorder in recorders:
            cache = stack.enter_context(
                closing(
                    Cache.from_url(
                        url, CODECS, prefix=address.prefix, policy=policy, recorder=recorder, timeout_s=5.0
                    )
                )
            )
            cache.start()
            caches.append(cache)
        if not wait_until(
            lambda: all(cache.mode is Mode.BOTH for cache in caches), timeout_s=START_TIMEOUT_S
        ):
            raise RuntimeError("not every cache is trusted within a minute")
        for cache in caches:
            cache.peek("customer_00000000-0000-4000-8000-000000000000")  # opens a connection for reading
        after = _used()
        pipe.send(Footprint(size, *(now - then for now, then in zip(after, before, strict=True))))
        try:
            _answer(pipe, caches, recorders)
        except EOFError:
            return  # the measurement is over


def _answer(pipe: Connection, caches: list[Cache], recorders: list[_Times]) -> None:
    untrusted = samples = 0
    while True:
        if not pipe.poll(SAMPLE_S):
            samples += len(caches)
            untrusted += sum(not cache.l1.is_trusted() for cache in caches)
            continue
        question, keys = pipe.recv()
        if question == "hold":
            for cache in caches:
                cache.get_many(keys, load_reference)
                if not set(keys) <= set(cache.l1.keys()):
                    raise RuntimeError("L1 does not hold what was read")
            for recorder in recorders:
                del recorder.ns[:]
            untrusted = samples = 0
            pipe.send(None)
        else:
            _await_messages(recorders, len(keys))
            kept = sum(len(set(keys) & set(cache.l1.keys())) for cache in caches)
            pipe.send(Handled([recorder.ns.tobytes() for recorder in recorders], untrusted, samples, kept))


def _await_messages(recorders: list[_Times], messages: int) -> None:
    if not wait_until(
        lambda: all(len(recorder.ns) >= messages for recorder in recorders),
        timeout_s=HANDLED_TIMEOUT_S,
        interval_s=0.05,
    ):
        raise RuntimeError("not every cache has handled the messages within a minute")


def _used() -> tuple[int, int, int]:
    """Return the threads, file descriptors and resident kB of this process."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return threading.active_count(), descriptors, pages * resource.getpagesize() // 1024
