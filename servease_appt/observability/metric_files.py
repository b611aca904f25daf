"""The metrics library's files, one per worker and metric type, and the merging of dead workers' files.

The library keeps the files of every process that ever ran. Here the counters and histograms of dead workers are
summed into one file per type, so that reading costs the same after a thousand restarts as after the first.
"""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
SUMMED: Final = ("counter", "histogram")
_MERGED_PID: Final = 0
"""The process id in the name of the files that hold the sums of dead workers."""
_not_merged: set[int] = set()


def directory() -> Path | None:
    """Return the directory of the files; None for a process that keeps its metrics in memory."""
    given = os.environ.get(DIRECTORY_VARIABLE)
    return None if given is None else Path(given)


@contextmanager
def readable(where: Path) -> Iterator[list[Path]]:
    """Provide the files to read. No file is merged meanwhile, so that no worker is counted twice or left out.

    A file that a starting worker has created and not yet written is left out: the library fails on it.
    """
    with _lock(where, fcntl.LOCK_SH):
        yield [file for file in where.glob("*.db") if _has_begun(file)]


def merge_dead_worker(pid: int) -> None:
    """Add a dead worker's counters and histograms to the sums of dead workers, and delete its gauges.

    Called by gunicorn's master, which must never block: while a reader holds the lock, the files stay, and are
    still read, until the next worker dies.
    """
    where = directory()
    if where is None:
        return
    mark_process_dead(pid)  # type: ignore[no-untyped-call]
    _not_merged.add(pid)
    with suppress(BlockingIOError), _lock(where, fcntl.LOCK_EX | fcntl.LOCK_NB):
        while _not_merged:
            dead = _not_merged.pop()
            for kind in SUMMED:
                _add(where / f"{kind}_{dead}.db", where / f"{kind}_{_MERGED_PID}.db")


def sums(files: list[Path]) -> dict[str, float]:
    """Return the values of files of one type, summed by the library's own keys."""
    found: dict[str, float] = defaultdict(float)
    for file in files:
        values = MmapedDict.read_all_values_from_file(file)  # type: ignore[no-untyped-call]
        for key, value, _timestamp, _position in values:
            found[key] += value
    return found


def _add(dead: Path, merged: Path) -> None:
    if not _has_begun(dead):
        return
    new = merged.with_suffix(".new")
    new.unlink(missing_ok=True)
    together = MmapedDict(str(new))  # type: ignore[no-untyped-call]
    for key, value in sums([file for file in (dead, merged) if _has_begun(file)]).items():
        together.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    together.close()  # type: ignore[no-untyped-call]
    new.replace(merged)
    dead.unlink()


def _has_begun(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


@contextmanager
def _lock(where: Path, how: int) -> Iterator[None]:
    with (where / "lock").open("ab") as file:
        fcntl.flock(file, how)
        yield
