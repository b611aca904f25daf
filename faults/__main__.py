"""`python -m faults`: run the catalogue, print the table, write it into docs/faults.md and faults/results.json."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from faults import broken, distribution, experiment, many_invalidations, overload, report, shutdown
from faults.catalog import FAULTS
from faults.contest import run as contest
from faults.experiment import Result
from faults.report import Figures
from faults.testbed import Testbed

SYNC_TOO = (
    "none",
    "pubsub-kill",
    "pubsub-black-hole",
    "redis-data-black-hole",
    "redis-frozen-3s",
    "worker-killed",
)
"""What is run with sync workers as well: the class decides how workers wait, not how the cache works."""
CACHE_INVALIDATIONS = 1_000_000
CONTEST_S = 60.0
_BESIDE: tuple[tuple[str, Callable[[], Figures]], ...] = (
    ("overload", overload.run),
    ("contest", partial(contest.run, CONTEST_S)),
    ("cache-alone", partial(many_invalidations.measure, CACHE_INVALIDATIONS)),
)
"""What is measured beside the catalogue, by the section of the page."""


def main() -> int:
    """Run the faults. Returns the exit code: 0 if every promise was kept, 1 if not, 2 for wrong usage.

    A build without a protection is expected to break a promise: then 0 and 1 have changed places.
    """
    given = _arguments()
    return 0 if _run(given) is (given.broken is None) else 1


def _run(given: argparse.Namespace) -> bool:
    """Run what was asked for. Returns whether every promise was kept."""
    if given.only:
        results = _run_all(given.worker_class, given.only, given.history, given.broken)
        print(report.table(results))
        if given.keep:
            report.keep_table(given.worker_class, results, again=True)
        return all(result.kept for result in results)
    measured = list(_figures(given))
    for section, figures in measured:
        print(figures.text())
        if given.keep:
            report.keep_figures(section, figures)
    if measured:
        return all(figures.kept for _, figures in measured)
    return _everything(given.history)


def _figures(given: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Yield what was asked for by name beside the catalogue, with its section of the page."""
    if given.invalidations:
        with Testbed(worker_class=given.worker_class, broken=given.broken) as testbed:
            yield "distribution", distribution.measure(testbed, given.invalidations)
    if given.cache_invalidations:
        yield "cache-alone", many_invalidations.measure(given.cache_invalidations, without=given.broken)
    if given.overload:
        yield "overload", overload.run(given.broken)
    if given.contest:
        yield "contest", contest.run(given.contest, given.broken)


def _everything(history: Path | None) -> bool:
    """Run all of it and keep what was measured, part by part. Returns whether every promise was kept."""
    results = _run_all("gthread", [*(fault.name for fault in FAULTS), shutdown.NAME], history)
    report.keep_table("gthread", results)
    sync = _run_all("sync", SYNC_TOO, None)
    report.keep_table("sync", sync)
    print(report.table(results), report.table(sync), sep="\n\nWith sync workers:\n\n")
    kept = all(result.kept for result in results + sync)
    for section, measure in _BESIDE:
        figures = measure()
        report.keep_figures(section, figures)
        print(f"\n{figures.text()}")
        kept = kept and figures.kept
    return kept


def _arguments() -> argparse.Namespace:
    names = [*(fault.name for fault in FAULTS), shutdown.NAME]
    parser = argparse.ArgumentParser(
        prog="python -m faults", description="Break the service under load and check what every request saw."
    )
    add = parser.add_argument
    add("--only", action="append", choices=names, metavar="FAULT", help="this one alone; may be given again")
    add("--keep", action="store_true", help="replace what was run in the tables")
    add("--worker-class", choices=("gthread", "sync"), default="gthread", help="with --only")
    add("--history", type=Path, metavar="DIRECTORY", help="keep the histories as JSON lines")
    add("--invalidations", type=int, metavar="N", help="the spread over N invalidations, without faults")
    add("--cache-invalidations", type=int, metavar="N", help="N invalidations with the cache alone")
    add("--overload", action="store_true", help="load at twice what can be served")
    add("--contest", type=float, metavar="SECONDS", help="bookings of the same times, with kills")
    add(
        "--broken",
        choices=sorted(broken.BREAKS),
        metavar="PROTECTION",
        help=f"try a build without it, one of {', '.join(sorted(broken.BREAKS))}",
    )
    given = parser.parse_args()
    if given.history:
        given.history.mkdir(parents=True, exist_ok=True)
    return given


def _run_all(
    worker_class: str, names: Sequence[str], history: Path | None, without: str | None = None
) -> list[Result]:
    results = []
    if without is not None:
        broken.apply(without)
    with Testbed(worker_class=worker_class, broken=without) as testbed:
        for fault in FAULTS:
            if fault.name in names:
                path = history / f"{fault.name}.jsonl" if history else None
                results.append(_reported(experiment.run(testbed, fault, path)))
        if shutdown.NAME in names:
            results.append(_reported(shutdown.run(testbed)))
    return results


def _reported(result: Result) -> Result:
    verdict = "kept" if result.kept else f"BROKEN: {'; '.join(result.broken)}"
    print(f"{time.strftime('%H:%M:%S')} {result.fault}: {verdict}", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
