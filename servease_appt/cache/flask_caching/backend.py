"""The two-tier cache as a Flask-Caching backend, so that `@cache.cached` and `@cache.memoize` get both tiers.

    app.config["CACHE_TYPE"] = "servease_appt.cache.flask_caching.TwoTierBackend"
    app.config["CACHE_REDIS_URL"] = "redis://localhost:6379/1"

A `set` that follows a `get` of the same key which found nothing, on the same thread, is a fill: it is refused
when the key was deleted meanwhile, in whichever worker. Every other `set` is a write, and drops the key from
every other worker's memory. Values are stored as JSON, never as pickle: what Flask's tagged JSON can hold (texts,
numbers, lists, dicts with text keys, tuples, bytes, dates, UUIDs, Markup) and responses.

While Redis is away, `get` finds what memory may still serve, `set` says False, and `delete` and `clear` raise
CacheUnavailable: a deletion that did not happen must not look like one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from datetime import timedelta
from typing import Any, Self

from flask import Flask, Response
from flask.json.tag import JSONTag, TaggedJSONSerializer
from flask_caching.backends.base import BaseCache

from servease_appt.cache.codecs import Codec
from servease_appt.cache.policy import CachePolicy
from servease_appt.cache.redis_client import connect
from servease_appt.cache.two_tier import Fence, TwoTierCache

DEFAULT_PREFIX = "flask_cache"
FOR_EVER_S = 365 * 24 * 3600
MAX_FENCES = 1000
MAX_KEY_CHARS = 200


class _ResponseTag(JSONTag):
    """A finished response, as views may return one."""

    __slots__ = ()
    key = " response"

    def check(self, value: Any) -> bool:
        return isinstance(value, Response) and not value.is_streamed

    def to_json(self, value: Response) -> Any:
        body = base64.b64encode(value.get_data()).decode()
        return [value.status_code, list(map(list, value.headers.items())), body]

    def to_python(self, value: Any) -> Response:
        status, headers, body = value
        return Response(base64.b64decode(body), status, [tuple(header) for header in headers])


class _Boxed:
    """A cached value of any type, None included; two are equal when their bytes are."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Boxed) and self.payload == other.payload

    def __hash__(self) -> int:
        return hash(self.payload)


def _box(payload: bytes, _rest: str) -> _Boxed:
    json.loads(payload)
    return _Boxed(payload)


_ENTRY = Codec("entry", encode=lambda boxed: boxed.payload, decode=_box)


class TwoTierBackend(BaseCache):
    """See the module. Thread-safe and fork-safe; each `get` gives an object of its own, so it may be changed."""

    def __init__(self, cache: TwoTierCache[_Boxed], default_timeout: int = 300) -> None:
        super().__init__(default_timeout=default_timeout)
        self.tiers = cache
        self._serializer = TaggedJSONSerializer()
        self._serializer.register(_ResponseTag, index=0)
        self._local = threading.local()

    @classmethod
    def factory(cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> Self:  # noqa: ARG003 - Flask-Caching's signature
        """Called by Flask-Caching. Reads CACHE_REDIS_URL (or CACHE_REDIS_HOST, _PORT, _DB), CACHE_KEY_PREFIX,
        CACHE_L1_TIMEOUT (10 s), CACHE_L1_MAXSIZE (10,000)."""
        timeout_s = int(kwargs.get("default_timeout") or 300)
        url = config.get("CACHE_REDIS_URL") or (
            f"redis://{config.get('CACHE_REDIS_HOST') or 'localhost'}:{config.get('CACHE_REDIS_PORT') or 6379}"
            f"/{config.get('CACHE_REDIS_DB') or 1}"
        )
        prefix = (config.get("CACHE_KEY_PREFIX") or DEFAULT_PREFIX).strip(":_")
        policy = CachePolicy(
            ttl_s=timeout_s,
            l1_ttl_s=min(float(config.get("CACHE_L1_TIMEOUT", 10)), timeout_s),
            l1_maxsize=int(config.get("CACHE_L1_MAXSIZE", 10_000)),
        )
        return cls(TwoTierCache(connect(url), (_ENTRY,), prefix=prefix, policy=policy), timeout_s)

    def get(self, key: str) -> Any:
        """The value, or None."""
        return self.get_many(key)[0]

    def get_many(self, *keys: str) -> list[Any]:
        """The values in the order of the keys, None for each that is missing: L1, then one MGET."""
        found = self._peek(keys)
        return [None if box is None else self._serializer.loads(box.payload.decode()) for box in found]

    def has(self, key: str) -> bool:
        """Whether there is a value, be it None."""
        return self._peek((key,))[0] is not None

    def set(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool | None:
        """Store a value for `timeout` seconds (0: a year). False when it was refused or Redis is away."""
        box = self._boxed(value)
        name, ttl_s = _name(key), self._seconds(timeout)
        fence = self._fences().pop(name, None)
        if fence is not None:
            return self.tiers.fill(name, box, fence, ttl_s)
        return self.tiers.write(name, box, ttl_s)

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Store a value unless there is one."""
        return not self.has(key) and bool(self.set(key, value, timeout))

    def delete(self, key: str) -> bool:
        """Drop a key from both tiers of every worker. Raises CacheUnavailable."""
        self.tiers.invalidate([_name(key)])
        return True

    def delete_many(self, *keys: str) -> list[str]:
        """Drop keys, atomically; returns them. Raises CacheUnavailable."""
        self.tiers.invalidate([_name(key) for key in keys])
        return list(keys)

    def clear(self) -> bool:
        """Drop everything under the prefix, and nothing else. Raises CacheUnavailable."""
        self.tiers.invalidate_matching("entry_*")
        return True

    def _peek(self, keys: tuple[str, ...]) -> list[_Boxed | None]:
        names = [_name(key) for key in keys]
        values, fences = self.tiers.peek_many(list(dict.fromkeys(names)))
        mine = self._fences()
        for name, fence in fences.items():
            if len(mine) >= MAX_FENCES:
                mine.pop(next(iter(mine)))
            mine[name] = fence
        return [values.get(name) for name in names]

    def _fences(self) -> dict[str, Fence]:
        fences: dict[str, Fence] | None = getattr(self._local, "fences", None)
        if fences is None:
            fences = self._local.fences = {}
        return fences

    def _boxed(self, value: Any) -> _Boxed:
        return _Boxed(self._serializer.dumps(value).encode())

    def _seconds(self, timeout: int | timedelta | None) -> float:
        wanted = self.default_timeout if timeout is None else timeout
        seconds = wanted.total_seconds() if isinstance(wanted, timedelta) else float(wanted)
        return seconds or FOR_EVER_S


def _name(key: str) -> str:
    """The cache's name of a key; one that can't travel in a message goes by its hash."""
    if len(key) <= MAX_KEY_CHARS and key.isprintable():
        return f"entry_{key}"
    return f"entry_sha256:{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"
