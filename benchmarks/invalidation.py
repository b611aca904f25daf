"""Part 4: the time from an invalidation's call to the last read of the old value in any worker."""

import multiprocessing
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import new_keys
from benchmarks.measure import Figure
from benchmarks.results import Results, Scale
from servease_appt.cache import Mode, TwoTierCache, connect, json_codec
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

JUDGED_WORKERS = 4
IDLE_PAUSE_S = 0.0002
LOADED_PAUSE_S = 0.005
PAGE = 60
Value = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shared:
    """Numbers in shared memory, with which the processes communicate without a server."""

    key: str
    """What is read and invalidated."""
    version: Any
    """What the source holds now."""
    seen: Any
    """By worker: the version that its last read gave."""
    last_stale_s: Any
    """By worker: when its last read of an old version began, on the machine's monotonic clock."""
    over: Any


def run(results: Results, scale: Scale) -> None:
    """Measure on 1 to 8 workers, idle and under load."""
    invalidations = 40 if scale.quick else 200
    with EmbeddedValkey() as server:
        for loaded in (False, True):
            for workers in (1, 4) if scale.quick else (1, 2, 4, 8):
                delays_ms = _measure(server.url(1), workers, invalidations, loaded=loaded)
                p50, p99 = statistics.median(delays_ms), sorted(delays_ms)[int(len(delays_ms) * 0.99)]
                state = "under load" if loaded else "idle"
                case = f"Invalidation to the last stale read, {state}"
                name = f"{workers} worker{'s' if workers > 1 else ''}"
                results.add(
                    part="invalidation",
                    case=case,
                    contender=name,
                    unit="ms",
                    figure=Figure.of(delays_ms),
                    ours=True,
                    p99_ms=round(p99, 2),
                )
                if workers == JUDGED_WORKERS:
                    results.target(f"{case}, {name}, median", value=p50, limit=2, unit="ms")
                    results.target(f"{case}, {name}, 99th percentile", value=p99, limit=10, unit="ms")
                sys.stderr.write(f"  {case}, {name}\n")


def _measure(url: str, workers: int, invalidations: int, *, loaded: bool) -> list[float]:
    """Return the milliseconds from the call to the begin of the last read, in any worker, of the old value."""
    delays_ms = []
    with _workers(url, workers, loaded=loaded) as shared, _cache(url) as cache:
        for number in range(invalidations + 5):
            _await(
                lambda: all(version == shared.version.value for version in shared.seen), "read the new value"
            )
            time.sleep(0.02)
            # The source changes first, as in production.
            shared.version.value += 1
            called_s = time.monotonic()
            cache.invalidate([shared.key])
            _await(lambda: all(version == shared.version.value for version in shared.seen), "noticed")
            if number >= 5:
                delays_ms.append(max(0.0, *((last_s - called_s) * 1000 for last_s in shared.last_stale_s)))
    return delays_ms


@contextmanager
def _cache(url: str) -> Iterator[TwoTierCache[Value]]:
    cache: TwoTierCache[Value] = TwoTierCache(connect(url), (json_codec("customer"),), prefix="bench_invalid")
    cache.start()
    _await(lambda: cache.mode is Mode.BOTH, "confirmed the channel")
    try:
        yield cache
    finally:
        cache.close()


@contextmanager
def _workers(url: str, count: int, *, loaded: bool) -> Iterator[Shared]:
    context = multiprocessing.get_context("spawn")
    shared = Shared(
        key=new_keys(1)[0],
        version=context.Value("q", 1, lock=False),
        seen=context.Array("q", [0] * count, lock=False),
        last_stale_s=context.Array("d", [0.0] * count, lock=False),
        over=context.Event(),
    )
    processes = [
        context.Process(target=_work, args=(url, number, shared), kwargs={"loaded": loaded})
        for number in range(count)
    ]
    for process in processes:
        process.start()
    try:
        yield shared
    finally:
        shared.over.set()
        for process in processes:
            process.join()


def _work(url: str, number: int, shared: Shared, *, loaded: bool) -> None:
    """Run a worker that reads the key five thousand times a second, under load also pages of 60 keys."""

    def load(_key: str, _timeout_s: float) -> Value:
        return {"id": "abcd", "version": shared.version.value}

    with _cache(url) as cache:
        pages = threading.Thread(target=_read_pages, args=(cache, shared.over))
        if loaded:
            pages.start()
        while not shared.over.is_set():
            began_s = time.monotonic()
            wanted = shared.version.value
            value = cache.get(shared.key, load)
            if value is not None:
                shared.seen[number] = value["version"]
                if value["version"] < wanted:
                    shared.last_stale_s[number] = began_s
            time.sleep(IDLE_PAUSE_S)
        if loaded:
            pages.join()


def _read_pages(cache: TwoTierCache[Value], over: Any) -> None:
    """Read pages at the rate of 200 requests a second for each worker."""
    page = [f"customer_{uuid.uuid4()}" for _ in range(PAGE)]
    while not over.is_set():
        cache.get_many(page, lambda key, _timeout_s: {"id": key})
        time.sleep(LOADED_PAUSE_S)


def _await(done: Callable[[], bool], what: str) -> None:
    if not wait_until(done, timeout_s=15, interval_s=0.001):
        raise RuntimeError(f"not every worker has {what} within 15 s")
