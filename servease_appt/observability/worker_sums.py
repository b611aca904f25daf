"""Read the counters: those of this process, or the sum over all workers from the metrics library's files.

The library's own collector takes 20 ms for a thousand series, because it parses and merges every label of every
worker each time. Here series are added up by their raw keys and each key is parsed once per process, because the
dashboard reads the sums every two seconds on a thread that also serves requests.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import isinf
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from servease_appt.observability import metric_files

OURS = "servease_"
"""The prefix of the names of the service's metrics."""

Values = tuple[str, ...]


class Series(NamedTuple):
    """One series: the sample's name, such as `…_total` or `…_bucket`, and its labels."""

    name: str
    labels: dict[str, str]


class Totals:
    """Counters at one moment. A bucket counts its own observations only, not those of the smaller buckets."""

    def __init__(self, samples: Iterable[tuple[Series, float]]) -> None:
        self._by_name: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for series, value in samples:
            self._by_name[series.name].append((series.labels, value))

    def by(self, name: str, *labels: str) -> dict[Values, float]:
        """Return a metric's values, summed over all labels but these, by the values of these."""
        sums: dict[Values, float] = defaultdict(float)
        for given, value in self._by_name.get(name, ()):
            sums[tuple(given[label] for label in labels)] += value
        return dict(sums)

    def buckets(self, histogram: str, **labels: str) -> list[tuple[float, int]]:
        """Return (upper bound, count) of each bucket, summed over the series with these labels, in order."""
        sums: dict[float, float] = defaultdict(float)
        for given, value in self._by_name.get(f"{histogram}_bucket", ()):
            if all(given[label] == wanted for label, wanted in labels.items()):
                sums[float(given["le"])] += value
        return [(end, int(n)) for end, n in sorted(sums.items())]

    def count(self, histogram: str, **labels: str) -> int:
        """Return the number of observations."""
        return sum(n for _, n in self.buckets(histogram, **labels))

    def quantile(self, histogram: str, share: float, **labels: str) -> float | None:
        """Return the value below which `share` (0 to 1) of the observations lie; None without observations.

        Interpolates linearly within a bucket, as Prometheus does. Above the last finite bound it is that bound.
        """
        buckets = self.buckets(histogram, **labels)
        wanted = share * sum(n for _, n in buckets)
        if not wanted:
            return None
        begin, below = 0.0, 0
        for end, n in buckets:
            if n and below + n >= wanted:
                return begin if isinf(end) else begin + (end - begin) * (wanted - below) / n
            begin, below = end, below + n
        return begin


def read_totals(registry: CollectorRegistry) -> Totals:
    """Sum all workers' files, or read this process's `registry` where there are no files."""
    where = metric_files.directory()
    return own_totals(registry.collect()) if where is None else Totals(_of_all(where))


def own_totals(metrics: Iterable[Metric]) -> Totals:
    """Return what this process alone has counted, from its own collected metrics."""
    return Totals(_of_one_process(metrics))


def _of_all(where: Path) -> Iterator[tuple[Series, float]]:
    with metric_files.readable(where) as files:
        for kind in metric_files.SUMMED:
            found = metric_files.sums([file for file in files if file.name.startswith(kind)])
            yield from ((_parsed(key), value) for key, value in found.items())
        gauges = [str(file) for file in files if file.name.startswith("gauge")]
        metrics = list(MultiProcessCollector.merge(gauges))  # type: ignore[no-untyped-call]
    for metric in metrics:
        yield from ((Series(sample.name, sample.labels), sample.value) for sample in metric.samples)


class AllWorkers(Collector):
    """The files of all workers, merged by the library, for Prometheus.

    In a host's process the files also hold the host's metrics, which are left out.
    """

    def __init__(self, where: Path) -> None:
        self._where = where

    def collect(self) -> Iterable[Metric]:
        """Read and merge the files."""
        with metric_files.readable(self._where) as files:
            merged: Iterable[Metric] = MultiProcessCollector.merge([str(file) for file in files])  # type: ignore[no-untyped-call]
            return [metric for metric in merged if metric.name.startswith(OURS)]


@lru_cache(maxsize=20_000)
def _parsed(key: str) -> Series:
    _metric, name, labels, _about = json.loads(key)
    return Series(name, labels)


def _of_one_process(metrics: Iterable[Metric]) -> Iterator[tuple[Series, float]]:
    for metric in metrics:
        below = 0.0
        for sample in metric.samples:
            value = sample.value
            if sample.name.endswith("_bucket"):
                value, below = value - below, value
                if sample.labels["le"] == "+Inf":
                    below = 0.0
            yield Series(sample.name, sample.labels), value
