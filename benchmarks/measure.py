"""Samples, medians and ratios. Contenders are measured in turns, so that noise affects all of them."""

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Sample = Callable[[], float]
"""Measures once and returns the figure."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The summary of many samples: the median, and the middle half as its spread."""

    median: float
    low: float
    high: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Figure":
        """Summarise samples, at least one."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0], 1)
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high, len(samples))

    def as_json(self) -> dict[str, Any]:
        """Return the figure as a JSON object."""
        return {"median": self.median, "low": self.low, "high": self.high, "samples": self.samples}


@dataclass(frozen=True, slots=True)
class Rounds:
    """The samples of several contenders, taken in turns."""

    samples: Mapping[str, Sequence[float]]

    def figure(self, name: str) -> Figure:
        """Return one contender's figure."""
        return Figure.of(self.samples[name])

    def ratio(self, name: str, baseline: str) -> Figure:
        """Return a contender's ratio to the baseline: the summary of the ratios of all rounds."""
        pairs = zip(self.samples[name], self.samples[baseline], strict=True)
        return Figure.of([ours / theirs for ours, theirs in pairs])


def in_turns(contenders: Mapping[str, Sample], *, rounds: int) -> Rounds:
    """Sample every contender once in each round; the first round does not count."""
    for sample in contenders.values():
        sample()
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, sample in contenders.items():
            samples[name].append(sample())
    return Rounds(samples)


def on_threads(work: Sequence[Callable[[], object]]) -> float:
    """Run each function on a thread of its own, all at once. Returns the seconds until the last has ended."""
    barrier = threading.Barrier(len(work) + 1)
    failures: list[BaseException] = []

    def run(piece: Callable[[], object]) -> None:
        barrier.wait()
        try:
            piece()
        except BaseException as error:  # noqa: BLE001 - raised again below, on the thread that asked
            failures.append(error)

    threads = [threading.Thread(target=run, args=(piece,)) for piece in work]
    for thread in threads:
        thread.start()
    barrier.wait()
    started_s = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed_s = time.perf_counter() - started_s
    if failures:
        raise failures[0]
    return elapsed_s
