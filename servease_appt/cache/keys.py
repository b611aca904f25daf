"""Names of keys in L2. All names except those of values begin with `prefix:__`, `KeySpace.reserved`.

Leases, absences and stale copies contain the whole data key as a hash tag, so that they share its slot in a
cluster. They are outside the tracked prefixes.
"""

from __future__ import annotations

import re


class KeySpace:
    """Names of L2 keys and of the channel, for one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix: str = prefix
        self.reserved: str = f"{prefix}:__"
        self.sequence: str = f"{prefix}:__seq"
        self.emptied: str = f"{prefix}:__emptied"
        self.beat: str = f"{prefix}:__beat:{{{self.sequence}}}"
        # On the node of the sequence, to which the channel of a cluster is connected.
        self.l1_off: str = f"{prefix}:__l1_off:{{{self.sequence}}}"
        self.channel: str = f"{prefix}:invalidate"
        self.queries: str = f"{prefix}:__ask"
        self.events: str = f"{prefix}:__events"
        self.workers: str = f"{prefix}:__workers"

    def data(self, key: str) -> str:
        """Return the name of a value, which is stored as plain JSON under `prefix:key`."""
        return f"{self.prefix}:{key}"

    def lease(self, key: str) -> str:
        """Return the name of the lease, whose holder may load and fill a key."""
        return f"{self.prefix}:__lease:{{{self.prefix}:{key}}}"

    def absent(self, key: str) -> str:
        """Return the name of the cached answer that the source has no such value."""
        return f"{self.prefix}:__absent:{{{self.prefix}:{key}}}"

    def stale_copy(self, key: str) -> str:
        """Return the name of the stale copy, which outlives the value."""
        return f"{self.prefix}:__copy:{{{self.prefix}:{key}}}"

    def group(self, key: str) -> tuple[str, str, str, str]:
        """Return the four names of one entry, in the order that the scripts expect."""
        return self.data(key), self.lease(key), self.absent(key), self.stale_copy(key)

    @property
    def patterns(self) -> KeySpace:
        """The same names as glob patterns for SCAN, with special characters of the prefix escaped."""
        return KeySpace(re.sub(r"([*?\[\]\\^])", r"\\\1", self.prefix))

    def plain(self, data_key: str) -> str:
        """Return the key of a data key: without the prefix."""
        return data_key.removeprefix(f"{self.prefix}:")
