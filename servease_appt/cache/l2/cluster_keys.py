"""Names of keys in a cluster, for keys with braces, too: the names of one entry share a slot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from typing import Final, cast

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from servease_appt.cache.keys import KeySpace

SLOTS: Final = REDIS_CLUSTER_HASH_SLOTS
REMEMBERED: Final = 16_384
"""Names whose slots are remembered, which takes about 3 MB."""


class ClusterKeySpace(KeySpace):
    """`KeySpace` in which a key may contain braces.

    Redis hashes what is between the first braces of a name. A value's name can't be changed, so the other names of
    such an entry begin with a tag that has the slot of the value: `prefix:__lease:{123}{prefix:a{b}c}`.
    """

    def lease(self, key: str) -> str:
        """See `KeySpace.lease`."""
        return self._beside("__lease", key)

    def absent(self, key: str) -> str:
        """See `KeySpace.absent`."""
        return self._beside("__absent", key)

    def stale_copy(self, key: str) -> str:
        """See `KeySpace.stale_copy`."""
        return self._beside("__copy", key)

    @property
    def patterns(self) -> ClusterKeySpace:
        """See `KeySpace.patterns`."""
        return _Patterns(super().patterns.prefix)

    def _beside(self, kind: str, key: str) -> str:
        data = self.data(key)
        tag = f"{{{tag_of_slot(key_slot(data.encode()))}}}" if "{" in data or "}" in data else ""
        return f"{self.prefix}:{kind}:{tag}{{{data}}}"


class _Patterns(ClusterKeySpace):
    """Glob patterns for the names of a `ClusterKeySpace`, with the tag or without."""

    def _beside(self, kind: str, key: str) -> str:
        return f"{self.prefix}:{kind}:*{{{self.data(key)}}}"


def slots_of(names: Sequence[bytes]) -> list[int]:
    """Return the slots of names. The last ones are remembered: to compute one takes 0.3 µs. Thread-safe."""
    remembered = _remembered
    slots = list(map(remembered.get, names))
    if None in slots:
        if len(remembered) > REMEMBERED:
            remembered.clear()
        for place, name in enumerate(names):
            if slots[place] is None:
                slots[place] = remembered[name] = key_slot(name)
    return cast("list[int]", slots)


_remembered: dict[bytes, int] = {}


@lru_cache(maxsize=1024)
def tag_of_slot(slot: int) -> str:
    """Return a short text with this slot."""
    return next(text for text in map(str, count()) if key_slot(text.encode()) == slot)
