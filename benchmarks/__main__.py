"""`python -m benchmarks [--quick] [PART …]`: measure, and write results, tables and charts."""

import argparse
import importlib
import sys
import time

from benchmarks import report
from benchmarks.results import FULL, QUICK, Results

PARTS = {
    "library": "the cache as a library, against its peers",
    "pages": "pages over HTTP, against the least possible and against cache-aside",
    "stampede": "a hundred ask at once for what nobody has",
    "invalidation": "from an invalidation to the last stale read",
    "flask_caching": "Flask-Caching on two tiers, against its RedisCache",
    "cost": "memory, idle workers, commands, start-up",
    "cluster": "a page from L2 on a cluster of three, against a single server",
    "starts": "the starts of 92 days at which a booking fits",
}


def main() -> int:
    """Run the parts that were named. Returns 0 also if a target is missed: the machine may be busy."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, 1,000 appointments, under a minute"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    scale = QUICK if arguments.quick else FULL
    for part in arguments.parts or PARTS:
        print(f"{part}: {PARTS[part]} …", file=sys.stderr, flush=True)
        started_s = time.monotonic()
        results = Results(scale)
        importlib.import_module(f"benchmarks.{part}").run(results, scale)
        print(f"  {results.write(part)}, {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)
    for path in report.write(quick=scale.quick):
        print(path, file=sys.stderr)
    print(report.targets_table(quick=scale.quick))
    return 0


if __name__ == "__main__":
    sys.exit(main())
