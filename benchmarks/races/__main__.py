"""`python -m benchmarks.races [CACHE …]`: force each race on each cache, and write the table of docs/races.md."""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from benchmarks.races import scenarios, table, workers

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "races" / "results.json"


def main() -> int:
    """Run the caches that were named, or all that this Python can run; write the table when all of them ran."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races", description=__doc__)
    parser.add_argument("caches", nargs="*", metavar="CACHE", help=", ".join(workers.WORKERS))
    arguments = parser.parse_args()
    unknown = set(arguments.caches) - set(workers.WORKERS)
    if unknown:
        parser.error(f"there is no cache {', '.join(sorted(unknown))}")
    for cache in set(arguments.caches) - set(workers.usable()):
        parser.error(f"{cache} needs Python {'.'.join(map(str, workers.NEEDED_PYTHON[cache]))} or later")
    logging.disable(logging.CRITICAL)  # the packages log each fault that is caused here
    results: dict[str, dict[str, Any]] = {"versions": {}, "outcomes": {}}
    measured = arguments.caches or workers.usable()
    for cache in measured:
        results["versions"][cache] = table.version_of(cache)
        results["outcomes"][cache] = {}
        for race in scenarios.SCENARIOS:
            outcome = scenarios.run(race, workers.WORKERS[cache])
            cell = [round(outcome.stale_s, 2), round(outcome.failing_s, 2)]
            results["outcomes"][cache][race] = cell
            print(f"{cache}, {race}: {table.cell(*cell)}", file=sys.stderr, flush=True)
    print(table.render(results))
    missing = workers.WORKERS.keys() - set(measured)
    if missing:
        print(f"docs/races.md stays as it is: {', '.join(sorted(missing))} did not run.", file=sys.stderr)
    else:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        document = ROOT / "docs" / "races.md"
        document.write_text(table.put_into(document.read_text("utf-8"), results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
