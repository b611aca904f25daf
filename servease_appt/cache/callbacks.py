"""What the listener needs of the cache."""

from __future__ import annotations

from typing import Any, Protocol

from servease_appt.cache.l1 import Entry
from servease_appt.cache.messages import Invalidation


class ListenerCallbacks(Protocol):
    """What the listener tells the cache. Called on the listener's thread: must be quick and must not raise."""

    def on_confirmed(self, *, reconnected: bool, sequence_regressed: bool) -> None:
        """The subscription is confirmed; all that was kept before may be old.

        `sequence_regressed`: the server's sequence is behind what was heard before, so it has lost invalidations.
        """

    def on_restarted(self) -> None:
        """The thread had ended by a fault, and was started anew. Called on a reader's thread."""

    def on_gap(self) -> None:
        """At least one message was lost; all that was kept before may be old."""

    def on_counted_anew(self) -> None:
        """The first invalidation of a server that had no sequence, new or flushed; what was lost can't be told."""

    def on_trust(self, until_s: float) -> None:
        """L1 may be trusted until then, on the listener's clock; minus infinity: not at all."""

    def on_message(self, invalidation: Invalidation) -> None:
        """An invalidation arrived."""

    def on_query(self, payload: bytes) -> None:
        """A command or dashboard asks all workers something; every message before it has been handled."""

    def on_unreadable(self) -> None:
        """A message arrived that is none."""

    def on_changed(self, keys: list[str] | None) -> None:
        """Values changed on the server, by whatever hand; None: the database was flushed."""

    def on_flush_somewhere(self) -> None:
        """A database of the server was flushed: ours, or `on_flush_elsewhere` is called soon."""

    def on_flush_elsewhere(self) -> None:
        """It was another database."""

    def on_compared(self, key: str, entry: Entry[Any], payload: bytes | None) -> None:
        """The answer to `Listener.verify`: what L2 holds for the key right now."""

    def on_beat(self) -> None:
        """The server answered."""
