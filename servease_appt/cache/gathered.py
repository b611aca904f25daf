"""Invalidations and changes that were received together: each key is handled once.

In a storm, messages arrive faster than the listener's thread is scheduled. What has gathered by then costs a
worker less than the same messages one by one, and delays its pages less.
"""

from __future__ import annotations

from collections.abc import Callable

from servease_appt.cache.callbacks import ListenerCallbacks
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.messages import Invalidation, coalesce

MAX_GATHERED = 256
"""Named keys that are handled together, unless one message has more. More would delay the first of them."""


class Gathered:
    """Messages that were received and not handled yet. For the listener's thread.

    Handle them before anything that followed them: answers, queries, requests and patterns may rely on their
    effect.

    Attributes:
        callbacks: what is called; set before the first message.
    """

    callbacks: ListenerCallbacks

    def __init__(self, keys: KeySpace, follow_sequence: Callable[[int], None]) -> None:
        """Start without messages. `follow_sequence` receives the number of each one just before it is handled."""
        self._keys = keys
        self._follow_sequence = follow_sequence
        self._invalidations: list[Invalidation] = []
        self._named = 0
        self._changed: list[bytes] = []

    def add(self, invalidation: Invalidation) -> None:
        """Add a message that can be coalesced."""
        self._invalidations.append(invalidation)
        self._named += len(invalidation.keys)
        if self._named >= MAX_GATHERED:
            self.handle()

    def add_changed(self, names: tuple[bytes, ...]) -> None:
        """Add the names of values in L2 that were changed by any client."""
        self._changed += names
        if len(self._changed) >= MAX_GATHERED:
            self.handle()

    def handle(self) -> None:
        """Handle what was added. The invalidations come first: an entry that they drop need not be compared."""
        if self._invalidations:
            received, self._invalidations, self._named = self._invalidations, [], 0
            for invalidation in received:
                if invalidation.sequence is not None:
                    self._follow_sequence(invalidation.sequence)
            for invalidation in coalesce(received) if len(received) > 1 else received:
                self.callbacks.on_message(invalidation)
        if self._changed:
            changed, self._changed = dict.fromkeys(self._changed), []
            full = [name.decode(errors="replace") for name in changed]
            keys = [self._keys.plain(name) for name in full if not name.startswith(self._keys.reserved)]
            if keys:
                self.callbacks.on_changed(keys)
