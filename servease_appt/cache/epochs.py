"""Epochs: they distinguish a value read before an invalidation from one read after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# Above this number of keys, the epochs are replaced by one floor for all keys. That costs some refused or verified
# stores, and never a wrong one.
MAX_EPOCHS = 8192


class Epoch(NamedTuple):
    """The number of the last handled event and the time, which a reader takes before it sends its read.

    The value read is known to have been current at `at_s` and not later, however long the answer takes.
    """

    number: int
    at_s: float


class Epochs:
    """The epoch of the last event of each key. For use under the lock of L1."""

    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}
        self._floor = 0
        self.latest = 0

    def set(self, keys: Sequence[str], epoch: int) -> None:
        """Set the epoch of the last event of keys."""
        if len(self._epochs) + len(keys) > MAX_EPOCHS:
            self.set_all(epoch)
        else:
            self._epochs.update(dict.fromkeys(keys, epoch))
            self.latest = epoch

    def set_all(self, epoch: int) -> None:
        """Set the epoch of the last event of all keys."""
        self._epochs.clear()
        self._floor = self.latest = epoch

    def later_than(self, key: str, epoch: int) -> bool:
        """Return True if a key had an event after `epoch`."""
        return self._floor > epoch or self._epochs.get(key, 0) > epoch
