"""Everything that happens in the cache, told by the workers and by the server, as one stream.

The workers publish what they do while somebody watches. What nobody does, an expiry, and what other hands do,
a DEL or a FLUSHDB, is told by the server itself, of which this is one more client that listens.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Self

from servease_appt.cache.channel import Changed, Channel, Published
from servease_appt.cache.messages import Invalidation, UnreadableMessage, decode
from servease_appt.cli.cache.session import Access
from servease_appt.cli.cache.tables import batches, counted
from servease_appt.references.entities import ENTITIES

SERVER = "redis"
ASK_AGAIN_S = 2.0
EXPLAINED_S = 2.0
EXPIRY_SLACK_S = 0.1
MAX_LIVES = 20_000
MAX_KEYS_SHOWN = 20
ONE_OF = " or ".join(", ".join(ENTITIES).rsplit(", ", 1))


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the stream. `key` is `*` where the whole cache or a pattern is meant; `at_s` is wall clock."""

    at_s: float
    worker: str
    tier: str
    event: str
    key: str
    why: str = ""

    def concerns(self, entity: str) -> bool:
        """Whether this is about such an entity, or about everything."""
        return self.key == "*" or self.key.startswith(f"{entity}_")


class _Lives:
    """When each value in Redis will have ended: what tells an expiry from a deletion."""

    def __init__(self, access: Access) -> None:
        self._remote = access.cache.l2
        self._ends_at_s: dict[str, float] = {}

    def learn_all(self) -> None:
        for batch in batches(self._remote.scan("*")):
            if len(self._ends_at_s) >= MAX_LIVES:
                return
            self.still_there(batch)

    def still_there(self, keys: list[str]) -> set[str]:
        """Which of the keys have a value; their ends are remembered."""
        now = time.monotonic()
        there = set()
        for key, life_ms in zip(keys, self._remote.ttl_ms(keys), strict=True):
            if life_ms == -2:
                continue
            there.add(key)
            if len(self._ends_at_s) < MAX_LIVES or key in self._ends_at_s:
                self._ends_at_s[key] = now + life_ms / 1000 if life_ms >= 0 else float("inf")
        return there

    def forget(self, key: str) -> float | None:
        """How many seconds before its end a value is gone; None where its end was not known."""
        ends_at_s = self._ends_at_s.pop(key, None)
        return None if ends_at_s is None else ends_at_s - time.monotonic()


class Feed:
    """A context manager and an endless iterator. For one thread; raises redis-py's errors and OSError."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._keys = access.keys
        self._lives = _Lives(access)
        self._invalidated: dict[str, float] = {}
        self._patterns: dict[str, float] = {}
        self._workers: set[str] | None = None
        self._asked_at_s = float("-inf")
        self.listeners = 0

    def __enter__(self) -> Self:
        self._never, self._wake = socket.socketpair()
        self._channel = Channel(self._access.client)
        self._channel.send("SUBSCRIBE", self._keys.channel, self._keys.events)
        prefixes = [word for name in ENTITIES for word in ("PREFIX", self._keys.data(f"{name}_"))]
        self._channel.send("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
        self._lives.learn_all()
        self.listeners = self._access.questions.listeners()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()
        self._never.close()
        self._wake.close()

    def __iter__(self) -> Iterator[Happening]:
        while True:
            yield from self._ask_again()
            self._channel.wait(self._never, self._asked_at_s + ASK_AGAIN_S - time.monotonic())
            while True:
                there, frame = self._channel.receive()
                if not there:
                    break
                match frame:
                    case Published(channel, payload) if channel.decode() == self._keys.events:
                        yield from _told_by_worker(payload)
                    case Published(_, payload):
                        yield from self._published(payload)
                    case Changed(names):
                        yield from self._changed(names)

    def _ask_again(self) -> Iterator[Happening]:
        """Keep the workers telling, and see who has come and gone."""
        now = time.monotonic()
        if now - self._asked_at_s < ASK_AGAIN_S:
            return
        self._asked_at_s = now
        self._access.questions.watch()
        workers = set(self._access.questions.workers())
        known, self._workers = self._workers, workers
        if known is not None:
            for worker in sorted(workers - known):
                yield Happening(time.time(), worker, "channel", "joined", "*", "registered")
            for worker in sorted(known - workers):
                yield Happening(time.time(), worker, "channel", "left", "*", "no longer registered")
        for noted in (self._invalidated, self._patterns):
            for key in [key for key, at_s in noted.items() if now - at_s > EXPLAINED_S]:
                del noted[key]

    def _published(self, payload: bytes) -> Iterator[Happening]:
        """An invalidation on its way to the workers."""
        at_s, now = time.time(), time.monotonic()
        try:
            message = decode(payload, self._keys.prefix)
        except UnreadableMessage as error:
            yield Happening(at_s, SERVER, "channel", "unreadable", "*", str(error))
            return
        message, strange = self._as_workers_read(message)
        yield from (Happening(at_s, SERVER, "channel", "unreadable", "*", why) for why in strange)
        self._invalidated.update(dict.fromkeys(message.keys, now))
        if message.pattern is not None:
            self._patterns[message.pattern] = now
        yield from _announced(message, at_s)

    def _as_workers_read(self, message: Invalidation) -> tuple[Invalidation, list[str]]:
        """The message with its keys spelled as they are stored, and what is wrong with the rest."""
        spelled = {key: self._access.cache.codecs.canonical(key) for key in message.keys}
        strange = [f"{key} is no key of {ONE_OF}" for key, ours in spelled.items() if ours is None]
        if message.unreadable:
            strange.append(f"{counted(message.unreadable, 'key')} of the list can't be read")
        return replace(message, keys=tuple(filter(None, spelled.values()))), strange[:MAX_KEYS_SHOWN]

    def _changed(self, names: tuple[bytes, ...] | None) -> Iterator[Happening]:
        """Values that are gone and that no invalidation explains."""
        at_s = time.time()
        if names is None:
            yield Happening(at_s, SERVER, "l2", "flush", "*", "FLUSHDB or FLUSHALL")
            return
        keys = [self._keys.plain(name.decode(errors="replace")) for name in names]
        there = self._lives.still_there(keys)
        for key in keys:
            if key in there:
                self._invalidated.pop(key, None)
                continue
            left_s = self._lives.forget(key)
            if not self._is_explained(key):
                yield Happening(at_s, SERVER, "l2", key=key, **_how_it_went(left_s))

    def _is_explained(self, key: str) -> bool:
        return self._invalidated.pop(key, None) is not None or any(
            fnmatchcase(key, pattern) for pattern in self._patterns
        )


def _announced(message: Invalidation, at_s: float) -> Iterator[Happening]:
    why = f"by {message.source}" if message.source else "by another client"
    if message.pattern is not None:
        yield Happening(at_s, SERVER, "channel", "published", "*", f"{message.pattern} {why}")
    for key in message.keys[:MAX_KEYS_SHOWN]:
        yield Happening(at_s, SERVER, "channel", "published", key, why)
    if len(message.keys) > MAX_KEYS_SHOWN:
        more = f"{len(message.keys) - MAX_KEYS_SHOWN} more keys in one message {why}"
        yield Happening(at_s, SERVER, "channel", "published", "*", more)


def _told_by_worker(payload: bytes) -> Iterator[Happening]:
    try:
        message: dict[str, Any] = json.loads(payload)
        worker = str(message["worker"])
        for event in message["events"]:
            yield Happening(worker=worker, **event)
    except (ValueError, KeyError, TypeError):
        return  # somebody else's message on the workers' channel


def _how_it_went(left_s: float | None) -> dict[str, str]:
    if left_s is None:
        return {"event": "gone", "why": "expired, or deleted by other hands"}
    if left_s <= EXPIRY_SLACK_S:
        return {"event": "expired", "why": "its time was over"}
    return {"event": "deleted", "why": f"{left_s:.0f} s before its end: by hand, or evicted"}
