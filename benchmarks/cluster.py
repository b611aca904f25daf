"""Part 8: a page of 60 names from L2 on a cluster of three, against a single server, with the same cache.

Both servers run on this machine, and the reads take turns in small groups. So the ratio of the processor times of
this process is more certain than that of the waiting times, which also have what three servers take of few cores.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from benchmarks.contenders import Contender, Ours, new_keys
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
Read = Callable[[], object]


def run(results: Results, scale: Scale) -> None:
    """Measure the read of L2 alone, and a whole page: read, decoded and kept in L1."""
    with ExitStack() as stack:
        single = stack.enter_context(EmbeddedValkey())
        cluster = stack.enter_context(ClusterSetup())
        caches = {}
        for name, url in ((SINGLE, single.url(1)), (CLUSTER, cluster.url())):
            caches[name] = Ours(url)
            stack.callback(caches[name].close)
        keys = new_keys(PAGE)
        for cache in caches.values():
            _warm_up(cache, keys)
        for case, reads in _cases(caches, keys).items():
            _measure(case, reads, max(FEWEST_ROUNDS, scale.rounds * 2), results)


def _warm_up(cache: Ours, keys: Sequence[str]) -> None:
    def hears_all() -> bool:
        return cache.cache.mode is Mode.BOTH and not cache.cache.l2.unheard_nodes

    if not wait_until(hears_all, timeout_s=10):
        raise RuntimeError("the cache's channel was not confirmed within 10 s")
    cache.read(keys)


def _cases(caches: Mapping[str, Ours], keys: Sequence[str]) -> dict[str, dict[str, Read]]:
    def page(contender: Contender) -> Read:
        def read() -> None:
            contender.drop_l1(keys)
            contender.read(keys)

        return read

    return {
        f"The read of {PAGE} names from L2": {
            name: lambda l2=ours.cache.l2: l2.read(keys) for name, ours in caches.items()
        },
        f"A page of {PAGE} names, L1 cold": {name: page(ours) for name, ours in caches.items()},
    }


def _measure(case: str, reads: Mapping[str, Read], rounds: int, results: Results) -> None:
    waited, used = _sample(reads, rounds)
    for what, measured, judged in (("processor time", used, True), ("elapsed time", waited, False)):
        ratio = measured.ratio(CLUSTER, SINGLE)
        for name in reads:
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
        if judged:
            results.target(
                f"{case}, {CLUSTER}, {what}", value=ratio.median, limit=LIMIT, unit="× a single server"
            )


def _sample(reads: Mapping[str, Read], rounds: int) -> tuple[Rounds, Rounds]:
    """Return the elapsed time and the processor time of this process for one read, in µs."""
    waited: dict[str, list[float]] = {name: [] for name in reads}
    used: dict[str, list[float]] = {name: [] for name in reads}
    for number in range(rounds + 1):
        waited_ns, used_ns = dict.fromkeys(reads, 0), dict.fromkeys(reads, 0)
        for _ in range(TURNS_A_ROUND):
            for name, read in reads.items():
                read()  # the processor's caches have the other server's data
                began_ns, began_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
                for _ in range(TURN):
                    read()
                used_ns[name] += time.process_time_ns() - began_cpu_ns
                waited_ns[name] += time.perf_counter_ns() - began_ns
        if number:  # the first round does not count
            for name in reads:
                waited[name].append(waited_ns[name] / (TURN * TURNS_A_ROUND * 1000))
                used[name].append(used_ns[name] / (TURN * TURNS_A_ROUND * 1000))
    return Rounds(waited), Rounds(used)
