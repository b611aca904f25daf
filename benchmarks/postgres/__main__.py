"""`python -m benchmarks.postgres [--quick] [pooler] [replica]`: measure, and write it into docs/scaling.md."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks.postgres import pooler, replica, tables
from benchmarks.results import DIRECTORY, machine

_MEASURE: Final[dict[str, Callable[..., Any]]] = {"pooler": pooler.measure, "replica": replica.measure}


def main() -> int:
    """Measure the named parts, or both; write the results, and with a full run the tables of the document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; no table is written")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(_MEASURE)}; both without")
    arguments = parser.parse_args()
    quick, parts = bool(arguments.quick), list(arguments.parts) or list(_MEASURE)
    if set(parts) - set(_MEASURE):
        parser.error(f"there is no part {', '.join(sorted(set(parts) - set(_MEASURE)))}")
    path = DIRECTORY / "postgres" / f"measured{'-quick' if quick else ''}.json"
    results = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for part in parts:
        began_s = time.monotonic()
        scale: dict[str, Any] = {"rounds": 1, "seconds": 3.0} if quick else {"rounds": 5, "seconds": 6.0}
        results[part] = {"measured": _MEASURE[part](**scale), "machine": machine()}
        sys.stderr.write(f"{part}: {time.monotonic() - began_s:.0f} s\n")
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(tables.of_part(part, results))
    if not quick:
        print(tables.write(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
