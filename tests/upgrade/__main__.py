"""Keep a released version for the tests: `python -m tests.upgrade VERSION`, with its commit in `releases.COMMITS`.

It needs the history of the repository. The version runs with the dependencies that are installed now.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.upgrade.recording import record
from tests.upgrade.releases import keep, recording, unpack

if __name__ == "__main__":
    (version,) = sys.argv[1:]
    keep(version)
    with tempfile.TemporaryDirectory() as folder:
        recorded = record(unpack(version, Path(folder)), Path(folder))
    recording(version).write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
