"""Distinguish fills from writes, since Flask-Caching calls the same `set` for both.

A fill stores a value that was computed after a miss, and is refused if the key was invalidated meanwhile. A write
is unconditional. A `set` is a fill only if it follows a miss of the same key

* in the same request, or
* in the same call of a decorated function (`@cached`, `@memoize`, `{% cache %}`), in a request or not.

A memoized function has a version under a separate key, which its decorated calls and `delete_memoized` write. A
decorated call never replaces it: it creates a missing version, or extends the TTL of the version that it read.
Else a call that began before `delete_memoized` could bring back the old version, and with it all old values.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import timedelta
from types import FrameType

from flask import has_request_context, request

from servease_appt.cache.direct import Fence

MAX_NOTES = 1000
VERSION_SUFFIX = "_memver"
_IN_ENVIRON = "servease_appt.cache.flask_caching"
_PASS_ON = frozenset({"get", "get_many", "get_dict", "set", "set_many"})
_DECORATED = frozenset({"decorated_function", "_cache"})
_numbers = itertools.count(1)
_outside_requests: ContextVar[dict[tuple[int, str], Fence]] = ContextVar("fences_outside_requests")


class FenceNotes:
    """The fences of the misses of a request, or of a thread outside of requests, for the fills that follow.

    Thread-safe. No fence outlives its request. Outside of requests, a thread keeps at most `MAX_NOTES`.
    """

    def __init__(self) -> None:
        self._number = next(_numbers)

    def keep(self, fences: Mapping[str, Fence]) -> None:
        """Keep fences by key. A request keeps the earliest fence of a key: its value may be as old as that."""
        notes, in_request = self._notes(), has_request_context()
        for key, fence in fences.items():
            if in_request and (self._number, key) in notes:
                continue
            if len(notes) >= MAX_NOTES:
                notes.pop(next(iter(notes)), None)
            notes[self._number, key] = fence

    def look(self, key: str) -> Fence | None:
        """Return the fence of a key; None if there is none."""
        return self._notes().get((self._number, key))

    def replace(self, key: str, fence: Fence) -> None:
        """Replace the fence of a key."""
        self._notes()[self._number, key] = fence

    def take(self, key: str) -> Fence | None:
        """Remove and return the fence of a key; None if there is none."""
        return self._notes().pop((self._number, key), None)

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the fences of these keys."""
        for key in keys:
            self.take(key)

    def forget_all(self) -> None:
        """Remove the fences of all keys."""
        notes = self._notes()
        for note in [note for note in list(notes) if note[0] == self._number]:
            notes.pop(note, None)

    def _notes(self) -> dict[tuple[int, str], Fence]:
        notes: dict[tuple[int, str], Fence] | None
        if has_request_context():
            notes = request.environ.setdefault(_IN_ENVIRON, {})
        else:
            notes = _outside_requests.get(None)
            if notes is None:
                notes = {}
                _outside_requests.set(notes)
        return notes


def is_version(key: str) -> bool:
    """Return True if a key is that of a memoized function's version."""
    return key.endswith(VERSION_SUFFIX)


def timeout_of(call: FrameType) -> int | timedelta | None:
    """Return the timeout of a function that was decorated with `@cached` or `@memoize`; None: it has none."""
    names = call.f_locals  # the decorators keep the function that they return under one of these names
    decorated = names.get("cached_fn") or names.get("memoized_fn")
    timeout = getattr(decorated, "cache_timeout", None)
    return timeout if isinstance(timeout, (int, timedelta)) else None


def may_fill(keys: Iterable[str]) -> bool:
    """Return True if the next `set` after a miss of these keys is a fill."""
    if has_request_context() and not any(map(is_version, keys)):
        return True
    return in_decorated_call()


def in_decorated_call() -> bool:
    """Return True if Flask-Caching calls its backend for a decorated function, not for the application."""
    return decorated_call() is not None


def decorated_call() -> FrameType | None:
    """Return the frame of the decorated call for which Flask-Caching calls its backend; None if there is none.

    Flask-Caching passes only keys and values. So this searches the stack from the backend outwards, and skips
    methods that only pass the call on (also those of a subclass).
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as `logging` and `warnings` find their callers
    while frame is not None:
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
        if not module.startswith(("flask_caching", __package__)) and name not in _PASS_ON:
            return None
        if module.startswith("flask_caching") and name in _DECORATED:
            return frame
        frame = frame.f_back
    return None
