"""Stores in L1, and the comparison of an entry with L2 after a tracking message about its key."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from servease_appt.cache.codecs import Codecs
from servease_appt.cache.epochs import Epoch
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.l1 import L1, NOT_FOUND, Entry
from servease_appt.cache.l2.protocol import L2
from servease_appt.cache.listener import Listener
from servease_appt.cache.stats import Event, Tier

log = logging.getLogger(__name__)
V = TypeVar("V")

UNHEARD_S = 1.0
"""L1 lifetime of a value on a node whose changes are not reported."""


class L1Keeper(Generic[V]):
    """Stores entries in L1, fenced, and drops those that differ from L2. Thread-safe."""

    def __init__(
        self,
        *,
        l1: L1[V],
        l2: L2,
        listener: Listener,
        codecs: Codecs[V],
        event_log: EventLog,
        l1_is_configured: bool,
        submit: Callable[[Callable[[], None]], object],
    ) -> None:
        self._l1 = l1
        self._l2 = l2
        self._listener = listener
        self._codecs = codecs
        self._event_log = event_log
        self._l1_is_configured = l1_is_configured
        self._submit = submit
        self.switched_off: bool = False
        """True while an operator has L1 switched off: nothing is stored in it."""

    @property
    def l1_is_on(self) -> bool:
        """True if entries are stored in L1."""
        return self._l1_is_configured and not self.switched_off

    def switch(self, *, off: bool) -> None:
        """Switch L1 off, which empties it, or on again. Does nothing if it is so already."""
        if off == self.switched_off:
            return
        self.switched_off = (
            off  # before L1 is emptied: a store that is under way is then refused by its epoch
        )
        if off:
            self._l1.flush()
        self._event_log.note_all(Tier.L1, Event.FLUSH, f"L1 was switched {'off' if off else 'on'}")
        log.warning("L1 was switched %s by an operator", "off" if off else "on")

    def keep(self, entries: list[tuple[str, Entry[V]]], epoch: Epoch) -> None:
        """Store entries that were read after `epoch` was taken, unless their keys were invalidated since (R1)."""
        if not self.l1_is_on:
            return
        refused, to_verify = self._l1.put_many(entries, epoch)
        if self._l2.unheard_nodes:
            self._shorten(entries)
        if refused:
            self._event_log.note(Tier.L1, Event.REFUSED_FILL, refused, "invalidated while it was read")
        if to_verify and self._listener.started:
            wanted = set(to_verify)
            self.verify({key: entry for key, entry in entries if key in wanted})

    def _shorten(self, entries: list[tuple[str, Entry[V]]]) -> None:
        """End the lifetime of values early whose node's tracking messages do not arrive.

        After they were put: a node that is lost from now on has its values dropped.
        """
        for key, entry in entries:
            if self._l2.node_of(key) in self._l2.unheard_nodes:
                entry.expires_at_s = min(entry.expires_at_s, entry.loaded_at_s + UNHEARD_S)

    def verify(self, entries: dict[str, Entry[V]]) -> None:
        """Compare entries with L2 by a read that is sent after their tracking messages arrived."""
        if self._l2.listens_where_it_reads:
            self._listener.verify(entries)
        else:
            self._submit(lambda: self._read_and_compare(entries))

    def compared(self, key: str, entry: Entry[V], payload: bytes | None) -> None:
        """Drop an entry whose key has changed on the server, unless it equals L2's current value."""
        if payload is None or entry.value is NOT_FOUND:
            same = payload is None and entry.value is NOT_FOUND
        else:
            same = self._codecs.is_encoded(key, entry.value, payload)
        if same:
            return
        if payload is None:
            self._drop(key, entry, Event.EXPIRY, "L2 has none")
        else:
            self._drop(key, entry, Event.OVERWRITTEN, "L2 has another")

    def _read_and_compare(self, entries: dict[str, Entry[V]]) -> None:
        try:
            payloads, _ = self._l2.read(list(entries))
        except L2Unavailable:
            for key, entry in entries.items():
                self._drop(key, entry, Event.EXPIRY, "L2 does not say what it has")
            return
        for (key, entry), payload in zip(entries.items(), payloads, strict=True):
            self.compared(key, entry, payload)

    def _drop(self, key: str, entry: Entry[V], event: Event, why: str) -> None:
        if self._l1.drop_if_same(key, entry):
            self._event_log.note(Tier.L1, event, (key,), why)
