"""Part 8: a page of 60 names from L2 on a cluster of three, against a single server, with the same cache.

Both servers run on this machine, and the reads take turns in small groups. So the ratio of the processor times of
this process is more certain than that of the waiting times, which also have what three servers take of few cores.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from statistics import median

from benchmarks.contenders import Ours, new_keys
from benchmarks.library import PAGE
from benchmarks.measure import Rounds
from benchmarks.results import Results, Scale
from servease_appt.cache import Mode
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.cluster_setup import ClusterSetup

SINGLE, CLUSTER = "single server", "cluster of three"
LIMIT = 1.3
TURN = 10
"""Reads of one server in a row: so few that a disturbance of the machine affects both alike."""
TURNS_A_ROUND = 20
FEWEST_ROUNDS = 15
PAGES = 200
"""Pages of different names: more names than a client remembers the commands of."""
Page = Sequence[str]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads pages, of which each call takes the next one; `before` is not measured."""

    pages: Sequence[Page]
    read: Callable[[Page], object]
    before: Callable[[Page], object] | None = None


def run(results: Results, scale: Scale) -> None:
    """Measure the read of L2 alone, and a whole page: read, decoded and kept in L1."""
    with ExitStack() as stack:
        single = stack.enter_context(EmbeddedValkey())
        cluster = stack.enter_context(ClusterSetup())
        caches = {}
        for name, url in ((SINGLE, single.url(1)), (CLUSTER, cluster.url())):
            caches[name] = Ours(url)
            stack.callback(caches[name].close)
        pages = [new_keys(PAGE) for _ in range(PAGES)]
        for cache in caches.values():
            _warm_up(cache, pages)
        for case, readers in _cases(caches, pages).items():
            _measure(case, readers, max(FEWEST_ROUNDS, scale.rounds * 2), results)


def _warm_up(cache: Ours, pages: Sequence[Page]) -> None:
    def hears_all() -> bool:
        return cache.cache.mode is Mode.BOTH and not cache.cache.l2.unheard_nodes

    if not wait_until(hears_all, timeout_s=10):
        raise RuntimeError("the cache's channel was not confirmed within 10 s")
    for page in pages:
        cache.read(page)


def _cases(caches: Mapping[str, Ours], pages: Sequence[Page]) -> dict[str, dict[str, Reader]]:
    def reads(ours: Ours, pages: Sequence[Page]) -> Reader:
        return Reader(pages, ours.cache.l2.read)

    def whole_page(ours: Ours) -> Reader:
        return Reader(pages[:1], ours.read, ours.drop_l1)

    return {
        f"The read of {PAGE} names from L2": {name: reads(ours, pages[:1]) for name, ours in caches.items()},
        f"The read of {PAGE} names from L2, each time other names": {
            name: reads(ours, pages) for name, ours in caches.items()
        },
        f"A page of {PAGE} names, L1 cold": {name: whole_page(ours) for name, ours in caches.items()},
    }


def _measure(case: str, readers: Mapping[str, Reader], rounds: int, results: Results) -> None:
    waited, used = _sample(readers, rounds)
    for what, measured in (("processor time", used), ("elapsed time", waited)):
        for name in readers:
            results.add(
                part="cluster",
                case=f"{case}: {what}",
                contender=name,
                unit="µs",
                figure=measured.figure(name),
                baseline=SINGLE,
                ratio=measured.ratio(name, SINGLE),
                ours=name == CLUSTER or None,
            )
    results.target(
        f"{case}, {CLUSTER}: processor time",
        value=used.ratio(CLUSTER, SINGLE).median,
        limit=LIMIT,
        unit="× a single server",
    )


def _sample(readers: Mapping[str, Reader], rounds: int) -> tuple[Rounds, Rounds]:
    """Return the elapsed time and the processor time of this process for one read, in µs.

    A sample is the median of the turns of one round: a turn in which the machine was busy elsewhere is left out.
    """
    waited: dict[str, list[float]] = {name: [] for name in readers}
    used: dict[str, list[float]] = {name: [] for name in readers}
    pages = {name: cycle(reader.pages) for name, reader in readers.items()}
    for number in range(rounds + 1):
        turns: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
        for _ in range(TURNS_A_ROUND):
            for name, reader in readers.items():
                _time(reader, pages[name])  # the processor's caches have the other server's data
                times = [_time(reader, pages[name]) for _ in range(TURN)]
                turns[name].append((median(t for t, _ in times), median(t for _, t in times)))
        if number:  # the first round does not count
            for name, measured in turns.items():
                waited[name].append(median(t for t, _ in measured) / 1000)
                used[name].append(median(t for _, t in measured) / 1000)
    return Rounds(waited), Rounds(used)


def _time(reader: Reader, pages: Iterator[Page]) -> tuple[int, int]:
    page = next(pages)
    if reader.before is not None:
        reader.before(page)
    began_ns, began_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
    reader.read(page)
    cpu_ns = time.process_time_ns() - began_cpu_ns
    return time.perf_counter_ns() - began_ns, cpu_ns
