"""Processor time of other processes, which says more than the clock when the machine is busy."""

from collections.abc import Iterable
from pathlib import Path


def cpu_seconds(pids: Iterable[int]) -> float:
    """What all threads of these processes have used so far; processes that have ended count as nothing."""
    nanoseconds = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                nanoseconds += int(file.read_text("ascii").split()[0])
            except OSError:
                continue
    return nanoseconds / 1e9
