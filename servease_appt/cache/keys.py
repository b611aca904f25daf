"""How keys are named in L2. Everything but the values themselves begins with `prefix:__`.

The keys that the cache keeps for itself hold the whole data key as a hash tag, so that they share its slot in a
cluster, and lie outside the prefixes under which the server tells of changes.
"""

from __future__ import annotations

import re


class KeySpace:
    """Names of L2 keys and of the channel, for one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix: str = prefix
        self.sequence: str = f"{prefix}:__seq"
        self.channel: str = f"{prefix}:invalidate"
        self.queries: str = f"{prefix}:__ask"
        self.events: str = f"{prefix}:__events"
        self.workers: str = f"{prefix}:__workers"

    def data(self, key: str) -> str:
        """Where a value lies: plain JSON under `prefix:key`."""
        return f"{self.prefix}:{key}"

    def lease(self, key: str) -> str:
        """Who may load and fill a key right now."""
        return f"{self.prefix}:__lease:{{{self.prefix}:{key}}}"

    def absent(self, key: str) -> str:
        """The source said a short while ago that there is no such value."""
        return f"{self.prefix}:__absent:{{{self.prefix}:{key}}}"

    def stale_copy(self, key: str) -> str:
        """The last known value, which outlives the value itself."""
        return f"{self.prefix}:__copy:{{{self.prefix}:{key}}}"

    def group(self, key: str) -> tuple[str, str, str, str]:
        """All four keys of one entry, in the order that the scripts expect."""
        return self.data(key), self.lease(key), self.absent(key), self.stale_copy(key)

    @property
    def patterns(self) -> KeySpace:
        """The same names as glob patterns, for SCAN: whatever signs the prefix holds mean themselves."""
        return KeySpace(re.sub(r"([*?\[\]\\^])", r"\\\1", self.prefix))

    def plain(self, data_key: str) -> str:
        """The key behind a data key."""
        return data_key.removeprefix(f"{self.prefix}:")
