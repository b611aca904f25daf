"""`python -m benchmarks.scale.validation`: real caches with Zipf traffic, against what the model says of the same.

Some workers in one process read keys at random times. The lifetimes are short, so that every one of them ends many
times. What counts is the share of reads that each tier answers.
"""

import bisect
import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.results import machine
from benchmarks.scale.document import RESULTS
from benchmarks.scale.model import Scenario, hit_rates
from servease_appt.cache import CachePolicy, Event, Mode, Stats, Tier, TwoTierCache, json_codec
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

PREFIX = "bench_zipf"
SEED = 20_261_124


@dataclass(frozen=True, slots=True)
class Case:
    """One run. Rates are per second; the model is given the rates that were reached."""

    name: str
    workers: int
    entities: int
    reads: float
    invalidations: float
    zipf: float
    l1_ttl_s: float
    l2_ttl_s: float
    l1_maxsize: int = 10_000
    tracking: bool = True
    seconds: float = 40.0


CASES = (
    Case("popular keys", 4, 500, 600, 0, 1.0, l1_ttl_s=1, l2_ttl_s=8),
    Case("many keys", 4, 20_000, 600, 0, 1.0, l1_ttl_s=2, l2_ttl_s=10),
    Case("a full L1", 2, 5_000, 600, 0, 0.8, l1_ttl_s=5, l2_ttl_s=10, l1_maxsize=200),
    Case("many invalidations", 4, 500, 600, 60, 1.0, l1_ttl_s=2, l2_ttl_s=8),
    Case("tracking off", 4, 500, 600, 0, 1.0, l1_ttl_s=1, l2_ttl_s=8, tracking=False),
)


def main() -> int:
    """Run every case, and write the shares beside the model's."""
    rows = []
    with EmbeddedValkey() as server:
        for case in CASES:
            rows.append(compare(server.url(1), case))
            print(rows[-1])
    path = RESULTS / "validation.json"
    path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def compare(url: str, case: Case) -> dict[str, Any]:
    """Run one case; return the shares of reads by tier, real and according to the model."""
    real, reads_per_s, invalidations_per_s = _run(url, case)
    row = asdict(case) | {
        "reads": round(reads_per_s, 1),
        "invalidations": round(invalidations_per_s, 1),
        "real": {name: round(share, 4) for name, share in real.items()},
    }
    return row | {"model": forecast(row)}


def forecast(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what the model says of a case with the rates that were reached."""
    l1, l2 = hit_rates(
        Scenario(
            workers=row["workers"],
            entities=row["entities"],
            pages_per_worker=row["reads"] / row["workers"],
            keys_per_page=1,
            zipf=row["zipf"],
            invalidations=row["invalidations"],
            l1_ttl_s=row["l1_ttl_s"],
            l1_maxsize=row["l1_maxsize"],
            l2_ttl_s=row["l2_ttl_s"],
            stale_s=0,
            tracking=row["tracking"],
        )
    )
    return {"l1": round(l1, 4), "l2": round(l2, 4), "services": round(1 - l1 - l2, 4)}


def _run(url: str, case: Case) -> tuple[dict[str, float], float, float]:
    policy = CachePolicy(
        ttl_s=case.l2_ttl_s,
        l1_ttl_s=case.l1_ttl_s,
        l1_maxsize=case.l1_maxsize,
        stale_ttl_s=0,
        tracking=case.tracking,
    )
    with ExitStack() as stack:
        stats = [Stats() for _ in range(case.workers)]
        caches = [
            stack.enter_context(
                closing(
                    TwoTierCache.from_url(
                        url,
                        (json_codec("customer"),),
                        prefix=f"{PREFIX}_{case.name}",
                        policy=policy,
                        recorder=recorder,
                        timeout_s=5.0,
                    )
                )
            )
            for recorder in stats
        ]
        for cache in caches:
            cache.start()
        if not wait_until(lambda: all(cache.mode is Mode.BOTH for cache in caches), timeout_s=10):
            raise RuntimeError("not every channel was confirmed within 10 s")
        caches[0].invalidate(["customer_0"])
        traffic = _Traffic(case, caches)
        # The first two lives of L2 fill the tiers.
        traffic.run(2 * case.l2_ttl_s)
        before = [_counts(recorder) for recorder in stats]
        traffic.done = traffic.invalidated = 0
        elapsed_s = traffic.run(case.seconds)
        l1, l2, loads = (
            sum(after[tier] - old[tier] for after, old in zip(map(_counts, stats), before, strict=True))
            for tier in range(3)
        )
    total = l1 + l2 + loads
    shares = {"l1": l1 / total, "l2": l2 / total, "services": loads / total}
    return shares, traffic.done / elapsed_s, traffic.invalidated / elapsed_s


def _counts(recorder: Stats) -> tuple[int, int, int]:
    return (
        recorder.get(Tier.L1, Event.HIT),
        recorder.get(Tier.L2, Event.HIT),
        recorder.get(Tier.L2, Event.MISS),
    )


class _Traffic:
    """Random reads and invalidations, one thread for each worker."""

    def __init__(self, case: Case, caches: list[TwoTierCache[Any]]) -> None:
        self._case = case
        self._caches = caches
        weights = (rank**-case.zipf for rank in range(1, case.entities + 1))
        self._cumulative = list(itertools.accumulate(weights))
        self._lock = threading.Lock()
        self.done = self.invalidated = 0

    def run(self, seconds: float) -> float:
        """Read for some seconds; return how long it took."""
        started_s = time.monotonic()
        threads = [
            threading.Thread(target=self._work, args=(number, started_s + seconds))
            for number in range(len(self._caches))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - started_s

    def _work(self, number: int, until_s: float) -> None:
        chance, cache = random.Random(SEED + number), self._caches[number]
        case, done, invalidated = self._case, 0, 0
        rate = (case.reads + case.invalidations) / case.workers
        invalidates = case.invalidations / (case.reads + case.invalidations)
        due_s = time.monotonic()
        while True:
            due_s += chance.expovariate(rate)
            if due_s >= until_s:
                break
            time.sleep(max(0.0, due_s - time.monotonic()))
            key = f"customer_{bisect.bisect(self._cumulative, chance.random() * self._cumulative[-1])}"
            if chance.random() < invalidates:
                cache.invalidate([key])
                invalidated += 1
            else:
                cache.get_many([key], lambda wanted, _timeout_s: {"id": wanted})
                done += 1
        with self._lock:
            self.done += done
            self.invalidated += invalidated


if __name__ == "__main__":
    sys.exit(main())
