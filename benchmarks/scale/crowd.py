"""Many fake listeners in a few processes, controlled over pipes."""

import multiprocessing
import resource
import selectors
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.scale.fake_listener import Behaviour, Counts, FakeListener
from servease_appt.cache.keys import KeySpace
from servease_appt.testing.processes import wait_until

PROCESSES = 2
FEW = 8
"""So many listeners share one process."""
TICK_S = 0.005
LAZY_S = 1.0
ELECTING_TICK_S = 0.0005
"""While delays run that decide which listener carries out a plain PUBLISH: a longer tick would make them equal."""
SETTLE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the fake listeners connect."""

    port: int
    database: int
    prefix: str


class Crowd:
    """The fake listeners of one run. For one thread."""

    def __init__(self, pipes: list[Connection], size: int) -> None:
        self._pipes = pipes
        self.size = size

    def behave(self, behaviour: Behaviour) -> None:
        """Set what every listener does after a message, and set the counts to 0."""
        self._ask(("behave", behaviour))

    def counts(self) -> Counts:
        """Return the sum over all listeners since `behave`."""
        total = Counts()
        for one in self._ask(("counts", None)):
            for name in ("messages", "tracking", "bytes", "mgets", "scripts"):
                setattr(total, name, getattr(total, name) + getattr(one, name))
            total.delays_ms += one.delays_ms
        return total

    def wait_for(self, *, messages: int = 0, tracking: int = 0) -> Counts:
        """Wait until so many pushes have arrived. Returns the counts. Raises RuntimeError after a minute."""
        counts = Counts()

        def arrived() -> bool:
            nonlocal counts
            counts = self.counts()
            return counts.messages >= messages and counts.tracking >= tracking

        if not wait_until(arrived, timeout_s=SETTLE_TIMEOUT_S, interval_s=0.02):
            raise RuntimeError(
                f"{counts.messages} messages and {counts.tracking} tracking messages arrived,"
                f" not {messages} and {tracking}"
            )
        return counts

    def _ask(self, question: tuple[str, Any]) -> list[Any]:
        for pipe in self._pipes:
            pipe.send(question)
        return [pipe.recv() for pipe in self._pipes]


@contextmanager
def crowd(address: Address, size: int, *, tracking: bool = True) -> Iterator[Crowd]:
    """Start `size` listeners and wait until all are subscribed; end them at the end of the block."""
    context = multiprocessing.get_context("spawn")
    count = 1 if size <= FEW else PROCESSES
    pipes, processes = [], []
    for first in range(count):
        ours, theirs = context.Pipe()
        numbers = range(first, size, count)
        process = context.Process(
            target=_run, args=(theirs, address, numbers), kwargs={"tracking": tracking}, daemon=True
        )
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        for pipe in pipes:
            if pipe.recv() != "ready":
                raise RuntimeError("a process of fake listeners has not started")
        yield Crowd(pipes, size)
    finally:
        for pipe in pipes:
            pipe.close()  # which ends the process
        for process in processes:
            process.join(10)
            process.close()


def _run(pipe: Connection, address: Address, numbers: Sequence[int], *, tracking: bool) -> None:
    """Run the listeners of one process until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, len(numbers) + 256)), hard))
    counts, keys = Counts(), KeySpace(address.prefix)
    listeners: list[FakeListener] = []
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        for place, number in enumerate(numbers):
            listener = FakeListener(
                address.port, address.database, keys, number, tracking=tracking, counts=counts
            )
            listener.spread(time.monotonic(), place / len(numbers))
            listeners.append(listener)
            selector.register(listener.link, selectors.EVENT_READ, listener)
        pipe.send("ready")
        try:
            _loop(selector, pipe, listeners, counts)
        except (EOFError, ConnectionError):
            return  # the measurement is over
        finally:
            for listener in listeners:
                listener.close()


def _loop(
    selector: selectors.BaseSelector, pipe: Connection, listeners: list[FakeListener], counts: Counts
) -> None:
    tick_at_s = read_at_s = 0.0
    while True:
        behaviour = listeners[0].behaviour
        tick_s = ELECTING_TICK_S if behaviour.elect else TICK_S
        now_s = time.monotonic()
        if now_s >= tick_at_s:
            tick_at_s = now_s + tick_s
            for listener in listeners:
                listener.tick(now_s)
        if behaviour.lazy and now_s < read_at_s:
            if pipe.poll(tick_s):
                pipe.send(_answer(pipe.recv(), listeners, counts))
            continue
        read_at_s = now_s + LAZY_S
        for key, _ in selector.select(tick_s):
            if isinstance(key.data, FakeListener):
                if not key.data.receive():
                    raise ConnectionError("the server has closed a connection")
            else:
                pipe.send(_answer(pipe.recv(), listeners, counts))


def _answer(question: tuple[str, Any], listeners: list[FakeListener], counts: Counts) -> Counts | None:
    what, argument = question
    if what == "counts":
        return counts
    counts.messages = counts.tracking = counts.bytes = counts.mgets = counts.scripts = 0
    counts.delays_ms = []
    for listener in listeners:
        listener.behaviour = argument
    return None
