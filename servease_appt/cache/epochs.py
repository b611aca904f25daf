"""Epochs: how a value that was read before an invalidation is told from one that was read after it."""

from __future__ import annotations

from typing import NamedTuple

# Epochs are kept a key; past this many they are replaced by one floor that stands for all keys, which costs
# some refused or verified puts and never a wrong one.
MAX_EPOCHS = 8192


class Epoch(NamedTuple):
    """What a reader takes before it sends its read: how much had been handled by then, and when it was.

    What it brings is known to have been true at `at_s`, and not later, however long the way back was.
    """

    number: int
    at_s: float


class Epochs:
    """The last epoch at which something happened to each key. For use under the lock of L1."""

    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}
        self._floor = 0
        self.latest = 0

    def set(self, key: str, epoch: int) -> None:
        """Note that something happened to a key at `epoch`."""
        if len(self._epochs) >= MAX_EPOCHS:
            self.set_all(epoch)
        self._epochs[key] = self.latest = epoch

    def set_all(self, epoch: int) -> None:
        """Note that something happened to all keys."""
        self._epochs.clear()
        self._floor = self.latest = epoch

    def later_than(self, key: str, epoch: int) -> bool:
        """Say whether something happened to a key after `epoch`."""
        return self._floor > epoch or self._epochs.get(key, 0) > epoch
