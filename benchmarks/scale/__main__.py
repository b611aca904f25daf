"""`python -m benchmarks.scale [--quick]`: measure the cost in Redis by number of workers, and write it."""

import argparse
import json
import sys
import time

from benchmarks.results import DIRECTORY, machine
from benchmarks.scale import document
from benchmarks.scale.measurement import FULL, QUICK, measure


def main() -> int:
    """Measure, write the results, and with a full run the tables of `docs/scaling.md`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few listeners, a few seconds; no table is written"
    )
    quick: bool = parser.parse_args().quick
    started_s = time.monotonic()
    results = {"machine": machine(), **measure(QUICK if quick else FULL)}
    path = DIRECTORY / "scale" / f"measured{'-quick' if quick else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.stderr.write(f"{path}, {time.monotonic() - started_s:.0f} s\n")
    print(document.measured_tables(results))
    if not quick:
        print(document.write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
