"""`python -m faults`: run the catalogue, print the table, write it into docs/faults.md and faults/results.json."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from faults import experiment
from faults.catalog import FAULTS
from faults.rig import Rig


def main() -> int:
    """Exit code 0 when every promise was kept, 1 when not, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--only", action="append", help="run this fault alone (may be given again)")
    parser.add_argument("--worker-class", choices=("gthread", "sync"), default="gthread")
    parser.add_argument("--history", type=Path, help="keep the histories as JSON lines in this directory")
    given = parser.parse_args()
    chosen = [fault for fault in FAULTS if not given.only or fault.name in given.only]
    if given.history:
        given.history.mkdir(parents=True, exist_ok=True)
    with Rig(worker_class=given.worker_class) as rig:
        for fault in chosen:
            path = given.history / f"{fault.name}.jsonl" if given.history else None
            result = experiment.run(rig, fault, path)
            print(json.dumps(result.as_json(), indent=1), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
