"""`python -m benchmarks.scale [--quick]`: measure the cost in Redis by number of workers, and write it."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.results import machine
from benchmarks.scale import document, simulation
from benchmarks.scale.measurement import FULL, PARTS, QUICK, measure


def main() -> int:
    """Measure, write the results, and with a full run the tables and charts of `docs/scaling.md`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few listeners, a few seconds; no table is written"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them without")
    arguments = parser.parse_args()
    quick, parts = bool(arguments.quick), tuple(arguments.parts) or PARTS
    if set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(set(parts) - set(PARTS)))}")
    started_s = time.monotonic()
    path = document.RESULTS / f"measured{'-quick' if quick else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for part in parts:  # each one is kept, whatever happens to the next
        earlier: Mapping[str, Any] = results.get("measured", {})
        results |= {"machine": machine(), **measure(QUICK if quick else FULL, (part,))}
        results["measured"] = {**earlier, **results["measured"]}
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.stderr.write(f"{path}, {time.monotonic() - started_s:.0f} s\n")
    if quick:
        print(document.measured_tables(results))
    else:
        for written in [*simulation.write_charts(), *document.write()]:
            print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
