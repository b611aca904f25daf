"""The metrics library's files, one a worker and kind: which may be read, and what becomes of a dead worker's.

The library keeps a file for each process there ever was. Counters and histograms of the dead are added up in one
file of their own here, so that reading stays as cheap after a thousand restarts as it was after the first.
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
_NOBODY: Final = 0
"""The process id under which the dead are kept."""
_unburied: set[int] = set()


def directory() -> Path | None:
    """Where the files are; None for a process that keeps its metrics to itself."""
    given = os.environ.get(DIRECTORY_VARIABLE)
    return None if given is None else Path(given)


@contextmanager
def readable(where: Path) -> Iterator[list[Path]]:
    """The files to read; none of them is buried meanwhile, so that nobody is counted twice or not at all.

    A file that a starting worker has opened and not yet begun is left out: the library fails on it.
    """
    with _lock(where, fcntl.LOCK_SH):
        yield [file for file in where.glob("*.db") if _has_begun(file)]


def bury(pid: int) -> None:
    """Add what a dead worker has counted to what the other dead have, and drop its states.

    Called by gunicorn's master, which must never wait: while somebody reads, the files stay, and still count,
    until the next worker dies.
    """
    where = directory()
    if where is None:
        return
    mark_process_dead(pid)  # type: ignore[no-untyped-call]
    _unburied.add(pid)
    with suppress(BlockingIOError), _lock(where, fcntl.LOCK_EX | fcntl.LOCK_NB):
        while _unburied:
            dead = _unburied.pop()
            for kind in SUMMED:
                _add(where / f"{kind}_{dead}.db", where / f"{kind}_{_NOBODY}.db")


def sums(files: list[Path]) -> dict[str, float]:
    """The values of files of one kind, added up by the library's own keys."""
    found: dict[str, float] = defaultdict(float)
    for file in files:
        values = MmapedDict.read_all_values_from_file(file)  # type: ignore[no-untyped-call]
        for key, value, _timestamp, _position in values:
            found[key] += value
    return found


def _add(dead: Path, grave: Path) -> None:
    if not _has_begun(dead):
        return
    new = grave.with_suffix(".new")
    new.unlink(missing_ok=True)
    together = MmapedDict(str(new))  # type: ignore[no-untyped-call]
    for key, value in sums([file for file in (dead, grave) if _has_begun(file)]).items():
        together.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    together.close()  # type: ignore[no-untyped-call]
    new.replace(grave)
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
