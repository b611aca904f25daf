"""Part 1: the cache as a library. One key and a page of 60, warm and cold, on 1 and 8 threads."""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from redis import Redis

from benchmarks.contenders import BareMget, Contender, HandWritten, OneLock, Ours, new_keys
from benchmarks.measure import in_turns, on_threads
from benchmarks.peers import PEERS, quiet
from benchmarks.redis_commands import commands_per_call
from benchmarks.results import Results, Scale
from servease_appt.cache import Mode
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

WARM, L2_WARM, COLD = "L1 warm", "L1 cold, L2 warm", "both cold"
THREADS = 8
PAGE = 60
BATCH_S = 0.02
Pages = Iterator[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Case:
    """One combination of page size, tier state and threads."""

    keys: int
    state: str
    threads: int

    @property
    def name(self) -> str:
        """Return its name in tables."""
        asked = "1 key" if self.keys == 1 else f"{self.keys} keys"
        return f"{asked}, {self.state}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def baseline(self) -> str:
        """Return the name of the baseline."""
        return OneLock.name if self.state == WARM else HandWritten.name

    def concerns(self, contender: Contender) -> bool:
        """Return whether the case applies to a contender."""
        if self.threads > 1 and not contender.threads:
            return False
        if self.state == WARM:
            return contender.has_l1
        return contender.has_l2


CASES = [
    Case(keys, state, threads)
    for keys in (1, PAGE)
    for state in (WARM, L2_WARM, COLD)
    for threads in (1, THREADS)
]


def run(results: Results, scale: Scale) -> None:
    """Measure every case."""
    quiet()
    with EmbeddedValkey() as server, Redis.from_url(server.url(0)) as counters:
        contenders = _contenders(server.url(1), results)
        try:
            for case in CASES:
                _measure(case, [c for c in contenders if case.concerns(c)], counters, results, scale)
        finally:
            for contender in contenders:
                contender.close()
    _judge(results)


def _judge(results: Results) -> None:
    warm, warm_on_all, l2_warm = (
        Case(PAGE, state, threads).name for state, threads in ((WARM, 1), (WARM, THREADS), (L2_WARM, 1))
    )
    own = {OneLock.name, HandWritten.name, BareMget.name, Ours.name}
    ours = results.find(warm, Ours.name)
    quickest_peer = min(
        row["median"] for row in results.rows if row["case"] == warm and row["contender"] not in own
    )
    results.target(
        "60 keys, L1 warm, against TTLCache under one lock",
        value=ours["ratio"]["median"],
        limit=1.0,
        unit="×",
    )
    results.target(
        "1 key, L1 warm, against TTLCache under one lock",
        value=results.find(Case(1, WARM, 1).name, Ours.name)["ratio"]["median"],
        limit=2.5,
        unit="×",
    )
    results.target(
        "60 keys, L1 warm, against the quickest peer",
        value=ours["median"] / quickest_peer,
        limit=1.0,
        unit="×",
    )
    results.target(
        f"60 keys, L1 warm, {THREADS} threads in total against 1",
        value=results.find(warm_on_all, Ours.name)["median"] / ours["median"],
        limit=1.0,
        unit="×",
    )
    from_l2 = results.find(l2_warm, Ours.name)
    results.target(
        "60 keys, L2 warm, against hand-written L1 + MGET + JSON",
        value=from_l2["ratio"]["median"],
        limit=1.25,
        unit="×",
    )
    results.target(
        "60 keys, L2 warm, Redis commands", value=round(sum(from_l2["redis_commands"].values())), limit=1
    )
    for keys, state, limit in ((1, L2_WARM, 1.1), (1, COLD, 1.8), (PAGE, COLD, 2.0)):
        case = Case(keys, state, 1)
        results.target(
            f"{case.name}, against hand-written L1 + MGET + JSON",
            value=results.find(case.name, Ours.name)["ratio"]["median"],
            limit=limit,
            unit="×",
        )
    cold = results.find(Case(PAGE, COLD, 1).name, Ours.name)["redis_commands"]
    results.target(
        "60 keys, both cold, Redis commands for one key, with those inside scripts",
        value=round(sum(cold.values()) / PAGE, 1),
        limit=6,
    )


def _contenders(url: str, results: Results) -> list[Contender]:
    ours = Ours(url)
    if not wait_until(lambda: ours.cache.mode is Mode.BOTH, timeout_s=5):
        raise RuntimeError("the cache's channel was not confirmed within 5 s")
    contenders: list[Contender] = [ours, OneLock(), HandWritten(url), BareMget(url)]
    for make in PEERS:
        try:
            contender = make(url)
            contender.read(new_keys(PAGE))
        except Exception as error:  # noqa: BLE001 - a peer that does not run here is said so, and left out
            results.note(
                f"{getattr(make, '__qualname__', make)} did not run: {type(error).__name__}: {error}"
            )
            continue
        contenders.append(contender)
    return contenders


def _measure(
    case: Case, contenders: Sequence[Contender], counters: Redis, results: Results, scale: Scale
) -> None:
    samples: dict[str, Callable[[], float]] = {}
    for contender in contenders:
        pages = [_pages(case, contender) for _ in range(case.threads)]
        calls = _calls_for(BATCH_S * scale.length, contender, pages[0], case)
        samples[contender.name] = partial(_sample, contender, pages, calls, case)
    rounds = in_turns(samples, rounds=scale.rounds)
    for contender in contenders:
        commands = _commands(case, contender, counters)
        results.add(
            part="library",
            case=case.name,
            contender=contender.name,
            unit="µs",
            figure=rounds.figure(contender.name),
            baseline=case.baseline,
            ratio=rounds.ratio(contender.name, case.baseline),
            redis_commands=commands,
            ours=isinstance(contender, Ours) or None,
        )
    sys.stderr.write(f"  {case.name}\n")


def _pages(case: Case, contender: Contender) -> Pages:
    """Yield pages without end: always the same one, or always a new one."""
    if case.state == COLD:
        return (new_keys(case.keys) for _ in itertools.count())
    page = new_keys(case.keys)
    contender.read(page)
    return itertools.repeat(page)


def _sample(contender: Contender, pages: Sequence[Pages], calls: int, case: Case) -> float:
    """Return the microseconds of one read; with threads, of the time that all of them took together."""
    drop = case.state == L2_WARM
    if case.state == WARM:
        for page in pages:
            contender.read(next(page))
    each = max(1, calls // case.threads)
    spent_s: list[float] = []

    def read(page: Pages) -> None:
        spent_s.append(contender.time_reads(page, each, drop_l1=drop))

    if case.threads == 1:
        read(pages[0])
        return spent_s[0] / each * 1e6
    elapsed_s = on_threads([partial(read, page) for page in pages])
    # What the drops cost must not count: then it is the time inside the reads that is shared out.
    total_s = sum(spent_s) / case.threads if drop else elapsed_s
    return total_s / (each * case.threads) * 1e6


def _calls_for(seconds: float, contender: Contender, pages: Pages, case: Case) -> int:
    """Return the number of reads that take about that long."""
    drop = case.state == L2_WARM
    calls = 1
    while (took_s := contender.time_reads(pages, calls, drop_l1=drop)) < seconds / 10 and calls < 100_000:
        calls *= 4
    return max(2 * case.threads, int(calls * seconds / max(took_s, 1e-9)))


def _commands(case: Case, contender: Contender, counters: Redis) -> dict[str, float]:
    if not contender.has_l2:
        return {}
    pages = _pages(case, contender)
    return commands_per_call(
        counters,
        lambda: contender.time_reads(pages, 1, drop_l1=case.state == L2_WARM),
        calls=20,
    )
