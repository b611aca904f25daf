"""Part 3: many threads read one missing value at once, and its load takes 50 ms."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any, cast

from redis import Redis

from benchmarks.contenders import new_keys
from benchmarks.measure import Figure, on_threads
from benchmarks.results import Results, Scale
from servease_appt.cache import Mode, TwoTierCache, connect, json_codec
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

LOAD_S = 0.05
ASKING = 100
PROCESSES = 4
LOADS_KEY = "bench_loads"
ONE_LOAD = f"one load of {LOAD_S * 1000:g} ms"
Value = Mapping[str, Any]


def run(results: Results, scale: Scale) -> None:
    """Measure the number of loads, and the time until the last thread has its answer."""
    rounds = 5 if scale.quick else 15
    least = _least(rounds)
    results.add(
        part="stampede",
        case=f"Stampede: {ASKING} threads of one process",
        contender="one lock and one event, no cache",
        unit="ms",
        figure=Figure.of([delay * 1000 for delay in least]),
        baseline=ONE_LOAD,
        ratio=Figure.of([delay / LOAD_S for delay in least]),
        loads=1,
    )
    with EmbeddedValkey() as server:
        for case, sample in (
            (f"{ASKING} threads of one process", _one_process),
            (f"{PROCESSES} processes of {ASKING // PROCESSES} threads", _many_processes),
        ):
            loads, delays = sample(server.url(1), rounds)
            # One load is what nobody can be quicker than.
            ratio = Figure.of([delay / LOAD_S for delay in delays])
            results.add(
                part="stampede",
                case=f"Stampede: {case}",
                contender="last answer",
                unit="ms",
                figure=Figure.of([delay * 1000 for delay in delays]),
                baseline=ONE_LOAD,
                ratio=ratio,
                ours=True,
                loads=max(loads),
            )
            results.target(f"Stampede, {case}: loads", value=max(loads), limit=1)
            results.target(
                f"Stampede, {case}: last answer against one load", value=ratio.median, limit=1.3, unit="×"
            )


def _least(rounds: int) -> list[float]:
    """Return the seconds until one event has woken the last thread: the lower bound without a cache."""
    delays = []
    for _ in range(rounds):
        loaded = threading.Event()
        leads = threading.Lock()

        def wait(loaded: threading.Event = loaded, leads: threading.Lock = leads) -> None:
            if leads.acquire(blocking=False):
                time.sleep(LOAD_S)
                loaded.set()
            else:
                loaded.wait()

        delays.append(on_threads([wait] * ASKING))
    return delays


def _cache(url: str) -> TwoTierCache[Value]:
    cache: TwoTierCache[Value] = TwoTierCache(
        connect(url), (json_codec("customer"),), prefix="bench_stampede"
    )
    cache.start()
    if not wait_until(lambda: cache.mode is Mode.BOTH, timeout_s=5):
        raise RuntimeError("the cache's channel was not confirmed within 5 s")
    return cache


def _load(counter: Redis, key: str, _timeout_s: float) -> Value:
    counter.incr(f"{LOADS_KEY}_{key}")
    time.sleep(LOAD_S)
    return {"id": key, "full_name": "Amelia Fernando", "email": "amelia@example.com"}


def _loads_of(counter: Redis, key: str) -> int:
    return int(cast("bytes", counter.get(f"{LOADS_KEY}_{key}")))


def _one_process(url: str, rounds: int) -> tuple[list[int], list[float]]:
    loads, delays = [], []
    cache = _cache(url)
    with Redis.from_url(url) as counter:
        load = partial(_load, counter)
        for number in range(rounds + 1):
            key = new_keys(1)[0]
            delay_s = on_threads([partial(cache.get, key, load)] * ASKING)
            if number:
                loads.append(_loads_of(counter, key))
                delays.append(delay_s)
    cache.close()
    return loads, delays


def _many_processes(url: str, rounds: int) -> tuple[list[int], list[float]]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    times: Queue[tuple[int, float, float]] = context.Queue()
    keys = [new_keys(1)[0] for _ in range(rounds + 1)]
    processes = [context.Process(target=_process, args=(url, keys, barrier, times)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    marks = [times.get(timeout=120) for _ in range(PROCESSES * len(keys))]
    for process in processes:
        process.join()
    with Redis.from_url(url) as counter:
        loads = [_loads_of(counter, key) for key in keys[1:]]
    delays = []
    for number in range(1, len(keys)):
        of_round = [(began, ended) for n, began, ended in marks if n == number]
        delays.append(max(ended for _, ended in of_round) - min(began for began, _ in of_round))
    return loads, delays


def _process(url: str, keys: list[str], barrier: Barrier, times: "Queue[tuple[int, float, float]]") -> None:
    """Run one of the processes with its part of the threads, which start together with those of the others."""
    cache = _cache(url)
    with Redis.from_url(url) as counter:
        load = partial(_load, counter)
        for number, key in enumerate(keys):
            began, ended = _ask_together(partial(cache.get, key, load), barrier)
            times.put((number, began, ended))
    cache.close()


def _ask_together(ask: Callable[[], object], barrier: Barrier) -> tuple[float, float]:
    """Return when this process's threads began to read, and when the last of them had its answer."""
    ready = threading.Barrier(ASKING // PROCESSES + 1)

    def wait_and_ask() -> None:
        ready.wait()
        ask()

    threads = [threading.Thread(target=wait_and_ask) for _ in range(ASKING // PROCESSES)]
    for thread in threads:
        thread.start()
    barrier.wait(timeout=60)
    began_s = time.monotonic()
    ready.wait()
    for thread in threads:
        thread.join()
    return began_s, time.monotonic()
