"""The interface between the listener and the cache."""

from __future__ import annotations

from typing import Any, Protocol

from servease_appt.cache.l1 import Entry
from servease_appt.cache.messages import Invalidation


class ListenerCallbacks(Protocol):
    """The listener's callbacks. Called on the listener's thread: they must be quick and must not raise."""

    def on_confirmed(self, *, reconnected: bool, invalidations_lost: bool) -> None:
        """Handle a confirmed subscription: everything cached before may be stale.

        `invalidations_lost`: the server has lost invalidations, or can't prove that it has not.
        """

    def on_cut_off(self) -> None:
        """Handle a server that may not be the primary: another one may take invalidations, or lack some."""

    def on_node_lost(self, name: str, *, gone: bool) -> None:
        """Handle the loss of a cluster's node: L1 may keep its values for a short time only.

        `gone`: another node serves its keys now.
        """

    def on_node_back(self, name: str, *, invalidations_lost: bool) -> None:
        """Handle a node whose messages arrive from now on: everything cached before may be stale.

        `invalidations_lost`: the node has lost invalidations, or can't prove that it has not.
        """

    def on_restarted(self) -> None:
        """Handle a restart of the thread, which ended by an error. Called on a reader's thread."""

    def on_gap(self) -> None:
        """Handle the loss of at least one message: everything cached before may be stale."""

    def on_sequence_restarted(self) -> None:
        """Handle the first invalidation of a new or flushed server without a sequence: losses are unknown."""

    def on_trust(self, until_s: float) -> None:
        """Trust L1 until `until_s`, on the listener's clock; minus infinity: do not trust it."""

    def on_message(self, invalidation: Invalidation) -> None:
        """Handle an invalidation."""

    def on_query(self, payload: bytes) -> None:
        """Handle a query by a command or dashboard; every earlier message has been handled."""

    def on_unreadable(self) -> None:
        """Handle an unreadable message."""

    def on_changed(self, keys: list[str] | None) -> None:
        """Handle a tracking message: any client changed these values; None: the database was flushed."""

    def on_flush_somewhere(self) -> None:
        """Handle the flush of an unknown database. `on_changed` or `on_flush_elsewhere` follows."""

    def on_flush_elsewhere(self) -> None:
        """Handle the news that another database was flushed."""

    def on_compared(self, key: str, entry: Entry[Any], payload: bytes | None) -> None:
        """Handle an answer to `Listener.verify`: `payload` is L2's current value of the key, None: none."""

    def on_command_reply(self, command: str, reply: object) -> None:
        """Handle the reply to a command of `Listener.send_soon`: an exception for an error reply."""

    def on_beat(self) -> None:
        """Handle an answered heartbeat."""
