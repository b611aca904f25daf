"""Pages of a real worker during a storm of invalidations of other keys, with 64 listeners on the server."""

import multiprocessing
import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders import load_reference
from benchmarks.cpu import cpu_seconds
from benchmarks.scale.crowd import Address, crowd
from benchmarks.scale.fake_listener import Behaviour, encode
from benchmarks.scale.operations import invalidate_sha, new_keys
from servease_appt.cache import CachePolicy, Mode, TwoTierCache, connect
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.messages import Invalidation, own_message_parts
from servease_appt.references.entities import CODECS, Reference
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import HOST, EmbeddedValkey

PREFIX = "appointment_service"
DATABASE = 1
WORKERS = 64
NAMES = 60
PAGES_PER_S = 100
PAGE_S = 0.001
"""Processor time of a page besides its names."""
STEP_S = 0.002
SEND_TIMEOUT_S = 60.0
Cache = TwoTierCache[Reference]


@dataclass(frozen=True, slots=True)
class Storm:
    """Invalidations a second, keys in each message, and whether all of them name the same keys."""

    rate: int
    keys_per_message: int = 1
    same: bool = False


@dataclass(frozen=True, slots=True)
class StormExtent:
    """Storms, rounds, and the seconds of one storm."""

    storms: Sequence[Storm]
    rounds: int
    seconds: float


def measure_storms(extent: StormExtent) -> list[dict[str, Any]]:
    """Return the duration of pages during each storm, beside that without one.

    In each round, every storm follows or precedes as many seconds without it. What other work does to the machine
    then changes both, and the median of the rounds' ratios is what a storm does.
    """
    context = multiprocessing.get_context("spawn")
    with EmbeddedValkey() as server, connect(server.url(DATABASE), timeout_s=30.0) as client:
        sha = invalidate_sha(client)
        with crowd(Address(server.port, DATABASE, PREFIX), WORKERS - 1, tracking=False) as fakes:
            fakes.behave(Behaviour(lazy=True, counts=False))
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs, server.url(DATABASE)), daemon=True)
            worker.start()
            if ours.recv() != "ready":
                raise RuntimeError("the worker has not started")
            pids = server.pid, _pid_of(worker)
            pairs: dict[Storm, list[tuple[_Pages, _Pages]]] = {storm: [] for storm in extent.storms}
            for number in range(extent.rounds):
                for storm in extent.storms:
                    messages = _encoded(storm, sha, extent.seconds)
                    both = {
                        any_: _measure(pids, ours, server.port, messages if any_ else [], extent.seconds)
                        for any_ in (number % 2 == 0, number % 2 == 1)
                    }
                    pairs[storm].append((both[False], both[True]))
            ours.send(0.0)
            worker.join(10)
    return [_row(storm, rounds) for storm, rounds in pairs.items()]


@dataclass(frozen=True, slots=True)
class _Pages:
    """The pages of some seconds, and the shares of a core that the server and the worker used.

    `ran_p99_ms` is about the pages' time less that in which their thread was ready and waited for a core.
    """

    redis_core: float
    worker_core: float
    p50_ms: float
    p99_ms: float
    ran_p99_ms: float


def _measure(
    pids: tuple[int, int], pipe: Any, port: int, messages: Sequence[bytes], seconds: float
) -> _Pages:
    """Send messages at an even rate beside the worker's pages; `pids`: the server's and the worker's."""
    used_s = [cpu_seconds([pid]) for pid in pids]
    pipe.send(seconds)
    _send(port, messages, seconds)
    took_ms, ran_ms = map(sorted, pipe.recv())
    redis_s, worker_s = (cpu_seconds([pid]) - used for pid, used in zip(pids, used_s, strict=True))
    last = int(len(took_ms) * 0.99)
    return _Pages(
        redis_core=redis_s / seconds,
        worker_core=worker_s / seconds,
        p50_ms=took_ms[len(took_ms) // 2],
        p99_ms=took_ms[last],
        ran_p99_ms=ran_ms[last],
    )


def _row(storm: Storm, rounds: Sequence[tuple[_Pages, _Pages]]) -> dict[str, Any]:
    calm, stormy = [pair[0] for pair in rounds], [pair[1] for pair in rounds]
    return {
        "rate": storm.rate,
        "keys_per_message": storm.keys_per_message,
        "same": storm.same,
        **{f"calm_{name}": value for name, value in _medians(calm).items()},
        **_medians(stormy),
        "p99_ratio": _spread([after.p99_ms / before.p99_ms for before, after in rounds]),
        "ran_p99_ratio": _spread([after.ran_p99_ms / before.ran_p99_ms for before, after in rounds]),
    }


def _spread(ratios: Sequence[float]) -> dict[str, float]:
    median, least, most = statistics.median(ratios), min(ratios), max(ratios)
    return {"median": round(median, 2), "least": round(least, 2), "most": round(most, 2)}


def _medians(pages: Sequence[_Pages]) -> dict[str, float]:
    rows = [asdict(page) for page in pages]
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}


def _pid_of(worker: Any) -> int:
    pid: int = worker.pid
    return pid


def _work(pipe: Any, url: str) -> None:
    """Answer pages for as long as the pipe says; reply with their durations, and these less waits for a core."""
    policy = CachePolicy(ttl_s=3600, l1_ttl_s=3600, tracking=False)
    with closing(Cache.from_url(url, CODECS, prefix=PREFIX, policy=policy, timeout_s=5.0)) as cache:
        cache.start()
        if not wait_until(lambda: cache.mode is Mode.BOTH, timeout_s=15):
            raise RuntimeError("the channel was not confirmed")
        page = [f"vehicle_00000000-0000-4000-9000-{number:012x}" for number in range(NAMES)]
        cache.get_many(page, load_reference)
        pipe.send("ready")
        while (seconds := pipe.recv()) > 0:
            took_ms, ran_ms, due_s = [], [], time.monotonic()
            until_s = due_s + seconds
            while due_s < until_s:
                time.sleep(max(0.0, due_s - time.monotonic()))
                waited_ms, began_s = _waited_for_a_core_ms(), time.perf_counter()
                cache.get_many(page, load_reference)
                busy_until_s = time.thread_time() + PAGE_S
                while time.thread_time() < busy_until_s:
                    pass
                took_ms.append((time.perf_counter() - began_s) * 1000)
                ran_ms.append(took_ms[-1] - (_waited_for_a_core_ms() - waited_ms))
                due_s += 1 / PAGES_PER_S
            pipe.send((took_ms, ran_ms))


def _waited_for_a_core_ms() -> float:
    """Return how long this thread has been ready to run without running."""
    return int(Path("/proc/thread-self/schedstat").read_text("ascii").split()[1]) / 1e6


def _encoded(storm: Storm, sha: str, seconds: float) -> list[bytes]:
    """Return the commands of a storm of invalidations of keys that the worker does not hold."""
    names, commands = KeySpace(PREFIX), []
    keys = new_keys(storm.keys_per_message)
    for _ in range(int(storm.rate * seconds / storm.keys_per_message)):
        keys = keys if storm.same else new_keys(storm.keys_per_message)
        head, tail = own_message_parts(Invalidation(keys=tuple(keys), source="storm:1:0"))
        group = [names.sequence, *(name for key in keys for name in names.group(key))]
        commands.append(encode("EVALSHA", sha, str(len(group)), *group, names.channel, head, tail))
    return commands


def _send(port: int, messages: Sequence[bytes], seconds: float) -> None:
    """Send commands at an even rate, without waiting for each answer, for some seconds."""
    sent = 0
    with socket.create_connection((HOST, port)) as link:
        link.sendall(encode("HELLO", "3") + encode("SELECT", str(DATABASE)))
        link.settimeout(0.0)
        started_s = time.monotonic()
        while (elapsed_s := time.monotonic() - started_s) < seconds:
            due = min(len(messages), int(len(messages) * elapsed_s / seconds))
            if due > sent:
                link.settimeout(SEND_TIMEOUT_S)
                link.sendall(b"".join(messages[sent:due]))
                link.settimeout(0.0)
                sent = due
            _drop_answers(link)
            time.sleep(STEP_S)
        link.settimeout(SEND_TIMEOUT_S)
        link.sendall(b"".join(messages[sent:]) + encode("PING"))
        while b"+PONG" not in link.recv(262_144):
            pass


def _drop_answers(link: socket.socket) -> None:
    try:
        while link.recv(262_144):
            pass
    except BlockingIOError:
        return
