"""Processor time of other processes, which is more precise than elapsed time on a busy machine."""

from collections.abc import Iterable
from pathlib import Path


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time of all threads of these processes so far; ended processes count as 0."""
    nanoseconds = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                nanoseconds += int(file.read_text("ascii").split()[0])
            except OSError:
                continue
    return nanoseconds / 1e9
