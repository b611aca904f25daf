"""The cache's events as one stream, from the workers and from the Redis server.

Workers publish their events while a monitor runs. Expiries, and a DEL or FLUSHDB from another client, are
reported by the server through client-side caching messages (CLIENT TRACKING), to which this subscribes itself.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Self

from servease_appt.cache.channel import Changed, Published
from servease_appt.cache.l2.cluster_channel import open_channel
from servease_appt.cache.messages import Invalidation, UnreadableMessage, decode
from servease_appt.cli.cache.tables import batches, counted
from servease_appt.inspection.session import OperatorSession
from servease_appt.inspection.workers import read_events, registered_workers
from servease_appt.references.entities import ENTITIES

SERVER = "redis"
RENEW_S = 2.0
EXPLAINED_S = 2.0
EXPIRY_SLACK_S = 0.1
MAX_TRACKED = 20_000
MAX_KEYS_SHOWN = 20
ONE_OF = " or ".join(", ".join(ENTITIES).rsplit(", ", 1))


@dataclass(frozen=True, slots=True)
class MonitorEvent:
    """One line of the stream.

    Attributes:
        at_s: Wall clock, in seconds since 1970.
        worker: The identity of a worker, or `redis`.
        key: The cache key; `*` where the event concerns the whole cache or a pattern.
        why: The reason; may be empty.
    """

    at_s: float
    worker: str
    tier: str
    event: str
    key: str
    why: str = ""

    def concerns(self, entity: str) -> bool:
        """Return whether this concerns the entity, or everything."""
        return self.key == "*" or self.key.startswith(f"{entity}_")


class _Expiries:
    """When each value in Redis expires: tells an expiry from a deletion."""

    def __init__(self, session: OperatorSession) -> None:
        self._remote = session.cache.l2
        self._expires_at_s: dict[str, float] = {}

    def learn_all(self) -> None:
        for batch in batches(self._remote.scan("*")):
            if len(self._expires_at_s) >= MAX_TRACKED:
                return
            self.still_there(batch)

    def still_there(self, keys: list[str]) -> set[str]:
        """Return which of the keys have a value, and remember when these expire."""
        now = time.monotonic()
        there = set()
        for key, ttl_ms in zip(keys, self._remote.ttl_ms(keys), strict=True):
            if ttl_ms == -2:
                continue
            there.add(key)
            if len(self._expires_at_s) < MAX_TRACKED or key in self._expires_at_s:
                self._expires_at_s[key] = now + ttl_ms / 1000 if ttl_ms >= 0 else float("inf")
        return there

    def forget(self, key: str) -> float | None:
        """Forget a value that is gone. Returns the seconds that it had left; None where that was not known."""
        expires_at_s = self._expires_at_s.pop(key, None)
        return None if expires_at_s is None else expires_at_s - time.monotonic()


class Feed:
    """A context manager and an endless iterator of events. For one thread.

    Raises redis-py's errors and OSError when Redis stops answering.
    """

    def __init__(self, session: OperatorSession) -> None:
        self._session = session
        self._keys = session.keys
        self._expiries = _Expiries(session)
        self._invalidated: dict[str, float] = {}
        self._patterns: dict[str, float] = {}
        self._workers: set[str] | None = None
        self._renewed_at_s = float("-inf")
        self.listeners = 0

    def __enter__(self) -> Self:
        self._never, self._wake = socket.socketpair()
        self._channel = open_channel(self._session.client, self._keys)
        self._channel.send("SUBSCRIBE", self._keys.channel, self._keys.events)
        prefixes = [word for name in ENTITIES for word in ("PREFIX", self._keys.data(f"{name}_"))]
        self._channel.send("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
        self._expiries.learn_all()
        self.listeners = self._session.queries.listeners()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()
        self._never.close()
        self._wake.close()

    def __iter__(self) -> Iterator[MonitorEvent]:
        while True:
            yield from self._renew()
            self._channel.wait(self._never, self._renewed_at_s + RENEW_S - time.monotonic())
            while True:
                there, frame = self._channel.receive()
                if not there:
                    break
                match frame:
                    case Published(channel, payload) if channel.decode() == self._keys.events:
                        yield from _from_worker(payload)
                    case Published(_, payload):
                        yield from self._published(payload)
                    case Changed(names):
                        yield from self._changed(names)

    def _renew(self) -> Iterator[MonitorEvent]:
        """Have the workers go on publishing, and compare the register of workers with the last one."""
        now = time.monotonic()
        if now - self._renewed_at_s < RENEW_S:
            return
        self._renewed_at_s = now
        self._channel.send(
            "GET", self._keys.sequence
        )  # a cluster's channel compares its nodes with the topology
        self._session.queries.watch()
        workers = set(registered_workers(self._session.queries))
        known, self._workers = self._workers, workers
        if known is not None:
            for worker in sorted(workers - known):
                yield MonitorEvent(time.time(), worker, "channel", "joined", "*", "registered")
            for worker in sorted(known - workers):
                yield MonitorEvent(time.time(), worker, "channel", "left", "*", "no longer registered")
        for noted in (self._invalidated, self._patterns):
            for key in [key for key, at_s in noted.items() if now - at_s > EXPLAINED_S]:
                del noted[key]

    def _published(self, payload: bytes) -> Iterator[MonitorEvent]:
        """An invalidation that was published to the workers."""
        at_s, now = time.time(), time.monotonic()
        try:
            message = decode(payload, self._keys.prefix)
        except UnreadableMessage as error:
            yield MonitorEvent(at_s, SERVER, "channel", "unreadable", "*", str(error))
            return
        message, strange = self._as_workers_read(message)
        yield from (MonitorEvent(at_s, SERVER, "channel", "unreadable", "*", why) for why in strange)
        self._invalidated.update(dict.fromkeys(message.keys, now))
        if message.pattern is not None:
            self._patterns[message.pattern] = now
        yield from _announced(message, at_s)

    def _as_workers_read(self, message: Invalidation) -> tuple[Invalidation, list[str]]:
        """Return the message with its keys as they are stored, and what is wrong with the others."""
        spelled = {key: self._session.cache.codecs.canonical(key) for key in message.keys}
        strange = [f"{key} is not a key of {ONE_OF}" for key, ours in spelled.items() if ours is None]
        if message.unreadable:
            strange.append(f"{counted(message.unreadable, 'key')} of the list cannot be read")
        return replace(message, keys=tuple(filter(None, spelled.values()))), strange[:MAX_KEYS_SHOWN]

    def _changed(self, names: tuple[bytes, ...] | None) -> Iterator[MonitorEvent]:
        """Values that are gone without an invalidation."""
        at_s = time.time()
        if names is None:
            yield MonitorEvent(at_s, SERVER, "l2", "flush", "*", "FLUSHDB or FLUSHALL")
            return
        keys = [self._keys.plain(name.decode(errors="replace")) for name in names]
        there = self._expiries.still_there(keys)
        for key in keys:
            if key in there:
                self._invalidated.pop(key, None)
                continue
            left_s = self._expiries.forget(key)
            if not self._is_explained(key):
                yield MonitorEvent(at_s, SERVER, "l2", key=key, **_cause(left_s))

    def _is_explained(self, key: str) -> bool:
        return self._invalidated.pop(key, None) is not None or any(
            fnmatchcase(key, pattern) for pattern in self._patterns
        )


def _announced(message: Invalidation, at_s: float) -> Iterator[MonitorEvent]:
    why = f"by {message.source}" if message.source else "by another client"
    if message.pattern is not None:
        yield MonitorEvent(at_s, SERVER, "channel", "published", "*", f"{message.pattern} {why}")
    for key in message.keys[:MAX_KEYS_SHOWN]:
        yield MonitorEvent(at_s, SERVER, "channel", "published", key, why)
    if len(message.keys) > MAX_KEYS_SHOWN:
        more = f"{len(message.keys) - MAX_KEYS_SHOWN} more keys in one message {why}"
        yield MonitorEvent(at_s, SERVER, "channel", "published", "*", more)


def _from_worker(payload: bytes) -> Iterator[MonitorEvent]:
    """What a worker publishes of itself; anything else on that channel is left out."""
    try:
        message: object = json.loads(payload)
    except (ValueError, RecursionError):
        return
    read = read_events(message)
    if read is not None:
        worker, events = read
        for event in events:
            yield MonitorEvent(worker=worker, **asdict(event))


def _cause(left_s: float | None) -> dict[str, str]:
    if left_s is None:
        return {"event": "gone", "why": "expired, or deleted by another client"}
    if left_s <= EXPIRY_SLACK_S:
        return {"event": "expired", "why": "its TTL ended"}
    return {
        "event": "deleted",
        "why": f"{left_s:.0f} s before its TTL ended: deleted by another client, or evicted",
    }
