"""`python -m faults`: run the catalogue, print the table, write it into docs/faults.md and faults/results.json."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from faults import distribution, experiment, report, shutdown
from faults.catalog import FAULTS
from faults.experiment import Result
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


def main() -> int:
    """Run the faults. Returns the exit code: 0 if every promise was kept, 1 if not, 2 for wrong usage."""
    given = _arguments()
    if given.invalidations:
        with Testbed(worker_class=given.worker_class) as testbed:
            found = distribution.measure(testbed, given.invalidations)
        print(report.distribution_text(found))
        report.keep("distribution", found)
        return 0 if found.kept else 1
    if given.only:
        results = _run_all(given.worker_class, given.only, given.history)
        print(report.table(results))
        if given.keep:
            report.keep(given.worker_class, results, again=True)
    else:
        results = _run_all("gthread", [*(fault.name for fault in FAULTS), shutdown.NAME], given.history)
        report.keep("gthread", results)
        sync = _run_all("sync", SYNC_TOO, None)
        report.keep("sync", sync)
        print(report.table(results), report.table(sync), sep="\n\nWith sync workers:\n\n")
        results += sync
    return 0 if all(result.kept for result in results) else 1


def _arguments() -> argparse.Namespace:
    names = [*(fault.name for fault in FAULTS), shutdown.NAME]
    parser = argparse.ArgumentParser(
        prog="python -m faults", description="Break the service under load and check what every request saw."
    )
    parser.add_argument(
        "--only", action="append", choices=names, metavar="FAULT", help="this one alone; may be given again"
    )
    parser.add_argument("--keep", action="store_true", help="with --only: replace these rows in the tables")
    parser.add_argument("--worker-class", choices=("gthread", "sync"), default="gthread", help="with --only")
    parser.add_argument("--history", type=Path, metavar="DIRECTORY", help="keep the histories as JSON lines")
    parser.add_argument(
        "--invalidations",
        type=int,
        metavar="N",
        help="measure the spread over N invalidations, without faults",
    )
    given = parser.parse_args()
    if given.history:
        given.history.mkdir(parents=True, exist_ok=True)
    return given


def _run_all(worker_class: str, names: list[str] | tuple[str, ...], kept: Path | None) -> list[Result]:
    results = []
    with Testbed(worker_class=worker_class) as testbed:
        for fault in FAULTS:
            if fault.name in names:
                path = kept / f"{fault.name}.jsonl" if kept else None
                results.append(_told(experiment.run(testbed, fault, path)))
        if shutdown.NAME in names:
            results.append(_told(shutdown.run(testbed)))
    return results


def _told(result: Result) -> Result:
    verdict = "kept" if result.kept else f"BROKEN: {'; '.join(result.broken)}"
    print(f"{time.strftime('%H:%M:%S')} {result.fault}: {verdict}", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
