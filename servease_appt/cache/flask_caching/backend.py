"""The Flask-Caching backend on the two tiers of `TwoTierCache`."""

from __future__ import annotations

import _thread
import contextlib
import hashlib
import logging
import time
import weakref
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Self

from flask import Flask, Response
from flask_caching.backends.base import BaseCache

from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.direct import Fence
from servease_appt.cache.errors import CacheUnavailable
from servease_appt.cache.flask_caching.boxes import Boxed, Boxes, Serializer
from servease_appt.cache.flask_caching.calls import VERSION_SUFFIX, FenceNotes, is_version, may_fill
from servease_appt.cache.flask_caching.other_workers import OtherWorkers
from servease_appt.cache.flask_caching.serializer import ExactSerializer
from servease_appt.cache.flask_caching.settings import BackendSettings, read_settings, safe_prefix
from servease_appt.cache.flask_caching.web_types import web_types
from servease_appt.cache.l1 import MISS
from servease_appt.cache.two_tier import TwoTierCache

log = logging.getLogger(__name__)

MAX_KEY_CHARS = 200
FEW = 2
"""Up to this many keys (a memoized method has two versions) are looked up in L1 one by one."""
RUN_POLL_S = (0.005, 0.1)
"""Seconds between two checks by a call that waits for another call's value: the first and the longest pause."""


class TwoTierBackend(BaseCache):
    """A Flask-Caching backend with two tiers: L1 in this process and L2 in Redis.

    While Redis does not answer, `get` returns values that L1 may still serve, `set` returns False, and `delete`,
    `clear` and Flask-Caching's `delete_memoized` raise CacheUnavailable: a deletion that failed must not look like
    a success. When one of these has returned, no worker serves the old value any more.

    Thread-safe and fork-safe. Each `get` returns a new object, so the application may change it. Threads and
    connections end with the application, or with `close()`.

    Args:
        settings: see `read_settings`.
        response_class: the application's response class.
    """

    def __init__(self, settings: BackendSettings, response_class: type[Response] = Response) -> None:
        super().__init__(settings.default_timeout_s, settings.ignore_delete_many_errors)
        self.key_prefix = settings.key_prefix
        self._boxes = Boxes(ExactSerializer(web_types(response_class)), settings.max_value_bytes)
        self._notes = FenceNotes()
        self.tiers: TwoTierCache[Boxed] = TwoTierCache(
            settings.client,
            (self._boxes.codec("entry"),),
            prefix=settings.prefix,
            policy=settings.policy,
            owns_client=True,
        )
        self._run_wait_s = settings.run_wait_s
        self._refresh_ahead_s = settings.refresh_ahead_s
        self._others = OtherWorkers(self.tiers, settings.eviction_wait_s)
        # On a thread: garbage collection may run while this thread holds a lock that closing needs.
        self._when_collected = weakref.finalize(self, _thread.start_new_thread, self.tiers.close, ())
        self._when_collected.atexit = False  # the cache closes itself then

    @classmethod
    def factory(cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> Self:  # noqa: ARG003 - Flask-Caching's signature
        """Return a backend for an application's settings. Called by Flask-Caching.

        Raises:
            ValueError: a setting is invalid or not supported; the text is one line that names it.
        """
        return cls(read_settings(config, kwargs), app.response_class)

    @property
    def refreshes(self) -> bool:
        """True if CACHE_REFRESH_AHEAD is set."""
        return bool(self._refresh_ahead_s)

    @property
    def serializer(self) -> Serializer:
        """The serializer of values. Flask-Caching replaces it if CACHE_SERIALIZER is set."""
        return self._boxes.serializer

    @serializer.setter
    def serializer(self, serializer: Serializer) -> None:
        self._boxes.serializer = serializer

    def get(self, key: str) -> Any:
        """Return the value; None if it is missing."""
        held = self.tiers.l1.get(self._name(key))
        return self.get_many(key)[0] if held is MISS else self._boxes.open(held)

    def get_many(self, *keys: str) -> list[Any]:
        """Return the values in the order of the keys; None for each missing one."""
        names = list(map(self._name, keys))
        if len(names) <= FEW:
            held = [box for box in map(self.tiers.l1.get, names) if box is not MISS]
            if len(held) == len(names):
                return list(map(self._boxes.open, held))
        fenced = may_fill(names)
        found, fences = self.tiers.peek_many(list(dict.fromkeys(names)), fenced=fenced)
        if fenced:
            self._notes.keep(fences)
        return [self._boxes.open(found.get(name)) for name in names]

    def has(self, key: str) -> bool:
        """Return True if there is a value, even if the value is None."""
        return bool(self.tiers.peek_many([self._name(key)], fenced=False)[0])

    def set(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool | None:
        """Store a value for `timeout` seconds.

        Args:
            key: any text.
            value: what `serializer` supports.
            timeout: TTL in seconds; 0 or -1: no expiry; None: CACHE_DEFAULT_TIMEOUT.

            Returns:
                True if it was stored. False if its key was invalidated since the miss, if the value is longer than
                CACHE_MAX_VALUE_BYTES, or if Redis does not answer.

            Raises:
                TypeError: the serializer can't restore the value unchanged.
            ValueError: the timeout is below -1.
        """
        return bool(self.set_many({key: value}, timeout))

    def set_many(self, mapping: Mapping[str, Any], timeout: int | timedelta | None = None) -> list[str]:
        """Store several values; writes are stored in one step. Returns the stored keys. See `set`."""
        ttl_s = self._ttl_s(timeout)
        boxes = {self._name(key): self._boxes.box(key, value) for key, value in mapping.items()}
        stored = set(self._store(self._short_enough(boxes), ttl_s))
        return [key for key in mapping if self._name(key) in stored]

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Store a value if there is none, atomically over all workers. Returns True if it was stored."""
        boxes = self._short_enough({self._name(key): self._boxes.box(key, value)})
        return any(self.tiers.add(name, box, self._ttl_s(timeout)) for name, box in boxes.items())

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to a number, atomically over all workers; a missing number counts as 0 and gets no expiry.

        Returns:
            The new number; None if Redis does not answer.

        Raises:
            ValueError: the value is not a 64-bit integer.
        """
        name = self._name(key)
        self._notes.forget([name])
        return self.tiers.increment(name, delta)

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Subtract from a number. See `inc`."""
        return self.inc(key, -delta)

    def delete(self, key: str) -> bool:
        """Drop a key from both tiers of every worker. Returns True. Raises CacheUnavailable."""
        return bool(self.delete_many(key))

    def delete_many(self, *keys: str) -> list[str]:
        """Drop keys from both tiers of every worker, atomically. Returns the keys. Raises CacheUnavailable."""
        names = list(map(self._name, keys))
        self._notes.forget(names)
        if names:
            self._others.wait(self.tiers.invalidate_and_count(names).listeners)
        return list(keys)

    def clear(self) -> bool:
        """Drop all values under the prefix, and nothing else. Returns True. Raises CacheUnavailable."""
        self._notes.forget_all()
        self.tiers.invalidate_matching(f"entry_{self._inner()}*")
        self._others.wait()
        return True

    def begin_refresh(self, key: str, timeout: int | timedelta | None) -> bool:
        """Take the fence of a cached value that is about to expire, so that this call computes it anew.

        A value is due in the last CACHE_REFRESH_AHEAD seconds, but not before 3/4 of its timeout have passed.

        Args:
            key: the key of a value that a `get` of this call has found.
            timeout: the timeout with which such values are stored; see `set`.

        Returns:
            False if it is not due, or if another call computes it.
        """
        ttl_s = self._ttl_s(timeout)
        if not self._refresh_ahead_s or ttl_s is None:
            return False
        name = self._name(key)
        left_s = self._left_s(name)
        if left_s is None or left_s > min(self._refresh_ahead_s, ttl_s / 4):
            return False
        fence = self.tiers.refresh_fence(name)
        if fence is not None:
            self._notes.replace(name, fence)
        return fence is not None

    def wait_for_run(self, key: str) -> tuple[bool, Any]:
        """Wait while another call computes the value of a key that a `get` of this call has missed.

        Returns:
            (True, the value), or (False, None) if this call must compute it: no other call does, the other call
            gave up, or it took longer than CACHE_RUN_WAIT.
        """
        name, deadline_s, pause_s = self._name(key), time.monotonic() + self._run_wait_s, RUN_POLL_S[0]
        fence = self._notes.look(name)
        while fence is not None and not fence.granted and time.monotonic() < deadline_s:
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, RUN_POLL_S[1])
            found, fences = self.tiers.peek_many([name])
            if name in found:
                self._notes.forget([name])
                return True, self._boxes.open(found[name])
            fence = fences.get(name)
            if fence is not None:
                self._notes.replace(name, fence)
        return False, None

    def give_up_run(self, key: str) -> tuple[bool, Any]:
        """Release the fence of a value that this call will not store, so that the next call computes it.

        Returns:
            (True, the stale copy) if there is one that no deletion has dropped, else (False, None).
        """
        name = self._name(key)
        fence = self._notes.take(name)
        if fence is None:
            return False, None
        self.tiers.release({name: fence})
        if fence.stale is None or self.tiers.l1.invalidated_since(name, fence.epoch):
            return False, None
        return True, self._boxes.open(Boxed(fence.stale))

    def close(self) -> None:
        """Stop the threads and close the connections; a client passed in by the host stays open. Idempotent."""
        self._when_collected.detach()
        self.tiers.close()

    def _left_s(self, name: str) -> float | None:
        """Return the seconds until a value in L1 expires in L2; None: at least as many as L1 holds values."""
        entry = self.tiers.l1.held((name,)).get(name)
        if entry is None or entry.expires_at_s - entry.loaded_at_s > self.tiers.policy.l1_ttl_s - 0.001:
            return None
        return entry.expires_at_s - elapsed_s()

    def _store(self, boxes: Mapping[str, Boxed], ttl_s: float | None) -> Iterable[str]:
        """Store boxes as fills, version renewals or writes. Yields the keys that were stored."""
        fills: dict[str, tuple[Boxed, Fence]] = {}
        renewals: dict[str, Boxed] = {}
        writes: dict[str, Boxed] = {}
        if not may_fill(boxes):
            writes = dict(boxes)
        else:
            for name, box in boxes.items():
                fence = self._notes.take(name)
                if fence is not None:
                    fills[name] = (box, fence)
                elif is_version(name):
                    renewals[name] = box
                else:
                    writes[name] = box
        if fills:
            yield from self.tiers.fill_many(fills, ttl_s)
        if renewals:
            yield from self.tiers.renew_many(renewals, ttl_s)
        if not writes:
            return
        written = self.tiers.write_many(writes, ttl_s)
        if any(map(is_version, writes)):  # `delete_memoized`
            if not written:
                raise CacheUnavailable("Redis did not accept the new version of a memoized function")
            self._others.wait()
        if written:
            yield from writes

    def _short_enough(self, boxes: dict[str, Boxed]) -> dict[str, Boxed]:
        """Return the boxes that may be stored. The old values of those that are too long are dropped."""
        too_long = [name for name, box in boxes.items() if len(box.payload) > self._boxes.max_bytes]
        for name in too_long:
            log.warning(
                "Not stored: %r has %s bytes, and CACHE_MAX_VALUE_BYTES is %s",
                name.removeprefix("entry_"), len(boxes[name].payload), self._boxes.max_bytes,
            )  # fmt: skip
        if too_long:
            with contextlib.suppress(CacheUnavailable):  # nothing is stored while Redis does not answer
                self.tiers.invalidate(too_long)
        return {name: box for name, box in boxes.items() if name not in too_long}

    def _name(self, key: str) -> str:
        """Return the tiers' name of a key; a key that a message can't contain is replaced by its hash."""
        text = str(key)
        if len(text) > MAX_KEY_CHARS or not text.isprintable():
            digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
            text = f"sha256:{digest}{VERSION_SUFFIX if is_version(text) else ''}"
        return f"entry_{self._inner()}{text}"

    def _inner(self) -> str:
        return "" if isinstance(self.key_prefix, str) else safe_prefix(self.key_prefix())

    def _ttl_s(self, timeout: int | timedelta | None) -> float | None:
        seconds = self._normalize_timeout(timeout)
        if seconds < -1:
            raise ValueError(f"a timeout is 0 (no expiry) or more seconds, not {seconds}")
        return float(seconds) if seconds > 0 else None
