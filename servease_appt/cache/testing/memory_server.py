"""A server in memory: it stores bytes with expiries and publishes messages, as far as the cache needs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from servease_appt.cache.breaker import Breaker
from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.codecs import Codec
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.protocol import L2, Backend
from servease_appt.cache.stats import Observer
from servease_appt.cache.testing.clock import HandClock
from servease_appt.cache.testing.memory_channel import Bus, MemoryChannel
from servease_appt.cache.testing.memory_l2 import MemoryL2
from servease_appt.cache.two_tier import TwoTierCache

LIMIT_S = 10.0


class MemoryServer(Backend):
    """A server for caches of one process, in place of a Redis client. Thread-safe.

    It carries out what the cache sends, and nothing else: commands, dashboards and the Flask-Caching backend need
    a real server.

    Example:
        >>> server = MemoryServer()
        >>> with server.cache(json_codec("customer")) as cache:
        ...     cache.get("customer_17", lambda key, timeout_s: {"name": "Ada"})["name"]
        'Ada'

    Args:
        clock: the clock of expiries, delays and the caches that `cache` makes; None: real time.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.clock: Callable[[], float] = clock or elapsed_s
        self.bus: Bus = Bus()
        self.down: bool = False
        """True to have every operation fail, and every channel end, until it is set to False."""
        self.lock: AbstractContextManager[bool] = threading.RLock()
        self._stored: dict[str, tuple[bytes, float | None]] = {}
        self._channels: list[MemoryChannel] = []
        if isinstance(clock, HandClock):
            clock.watch(self._time_has_passed)

    def cache(self, *codecs: Codec[Any], prefix: str = "test", **options: Any) -> TwoTierCache[Any]:
        """Return a cache on this server that has begun to listen.

        Args:
            codecs: see `TwoTierCache`.
            prefix: see `TwoTierCache`.
            options: all other arguments of `TwoTierCache`.
        """
        cache: TwoTierCache[Any] = TwoTierCache(
            self, codecs, prefix=prefix, **{"clock": self.clock, **options}
        )
        cache.start()
        self._wait(lambda: cache.channel is None or cache.channel.confirmed, "the channel is not confirmed")
        return cache

    def settle(self) -> None:
        """Wait until every listener has handled what has reached it by now.

        Raises:
            TimeoutError: it took more than `LIMIT_S` seconds of real time.
        """
        for channel in self._open_channels():
            if not channel.settled(LIMIT_S):
                raise TimeoutError(f"a listener is not done after {LIMIT_S} s")

    def cut_channels(self) -> None:
        """End every connection on which a listener receives messages; the listeners connect again."""
        for channel in self._open_channels():
            channel.cut()

    # For the cache: see `Backend`

    def make_l2(self, keys: KeySpace, breaker: Breaker, observer: Observer | None) -> L2:
        """See `Backend.make_l2`."""
        return MemoryL2(self, keys, breaker, observer)

    def open_channel(self, _keys: KeySpace, clock: Callable[[], float]) -> MemoryChannel:
        """See `Backend.open_channel`."""
        if self.down:
            raise RedisConnectionError("the server is down")
        channel = MemoryChannel(self.bus, clock, self._carry_out, self._forget)
        with self.lock:
            self._channels.append(channel)
        return channel

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    # For MemoryL2, under `lock`

    def get(self, name: str) -> bytes | None:
        """Return the bytes stored under a name."""
        self._expire()
        stored = self._stored.get(name)
        return None if stored is None else stored[0]

    def left_ms(self, name: str) -> int:
        """Return the remaining TTL in milliseconds; -1: no expiry; -2: nothing is stored."""
        self._expire()
        if name not in self._stored:
            return -2
        expires_at_s = self._stored[name][1]
        return -1 if expires_at_s is None else round((expires_at_s - self.clock()) * 1000)

    def set(self, name: str, payload: bytes, ttl_ms: int = 0) -> None:
        """Store bytes; `ttl_ms` 0: without expiry."""
        self._stored[name] = (payload, self.clock() + ttl_ms / 1000 if ttl_ms else None)
        self._report_change(name)

    def delete(self, *names: str) -> None:
        """Delete what is stored under these names."""
        self._expire()
        for name in names:
            if self._stored.pop(name, None) is not None:
                self._report_change(name)

    def names(self) -> Iterator[str]:
        """Yield all names."""
        self._expire()
        yield from list(self._stored)

    def announce(self, keys: KeySpace, head: str, tail: str) -> int:
        """Increment the sequence and publish the message. Returns the new number."""
        stored = self.get(keys.sequence)
        sequence = (int(time.time() * 1e6) if stored is None else int(stored)) + 1
        self._stored[keys.sequence] = (str(sequence).encode(), None)
        self.publish(keys.channel, f"{head}{sequence}{tail}".encode())
        return sequence

    def subscribers(self, topic: str) -> int:
        """Return the number of channels that subscribe to a topic."""
        return sum(topic in channel.topics for channel in self._open_channels())

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish a message, as any client of a server can."""
        for channel in self._open_channels():
            channel.publish(topic, payload)

    # Channels

    def _carry_out(self, _channel: MemoryChannel, command: tuple[str | bytes, ...]) -> Any:
        if self.down:
            raise RedisConnectionError("the server is down")
        with self.lock:
            match command:
                case ("GET", name):
                    return self.get(str(name))
                case ("MGET", *names):
                    return [self.get(str(name)) for name in names]
                case ("EXISTS", name):
                    return int(self.get(str(name)) is not None)
                case ("HSET" | "HDEL" | "UNLINK" | "PING", *_):
                    return 0  # registers of workers and heartbeats, which nothing reads here
        raise ResponseError(f"ERR unknown command {command[0]!r}")

    def _time_has_passed(self) -> None:
        with self.lock:
            self._expire()
        for channel in self._open_channels():
            channel.notify()

    def _expire(self) -> None:
        now = self.clock()
        for name in [n for n, (_, until) in self._stored.items() if until is not None and until <= now]:
            del self._stored[name]
            self._report_change(name)

    def _report_change(self, name: str) -> None:
        for channel in self._open_channels():
            channel.report_change(name)

    def _open_channels(self) -> list[MemoryChannel]:
        with self.lock:
            return list(self._channels)

    def _forget(self, channel: MemoryChannel) -> None:
        with self.lock:
            if channel in self._channels:
                self._channels.remove(channel)

    def _wait(self, done: Callable[[], bool], failed: str) -> None:
        waited = threading.Event()
        deadline_s = time.monotonic() + LIMIT_S
        while not done():
            if time.monotonic() > deadline_s:
                raise TimeoutError(failed)
            waited.wait(0.002)
