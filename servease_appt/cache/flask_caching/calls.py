"""Tell a fill from a write, since Flask-Caching calls the same `set` for both.

A fill stores what was computed after a miss, and is refused when the key was invalidated meanwhile; a write always
wins. A `set` is a fill only if a `get` of the same key found nothing before it

* in the same request, or
* in the same call of a decorated function (`@cached`, `@memoize`, `{% cache %}`), in a request or not.

A memoized function has a version, under a key of its own, which is written by its decorated calls and by
`delete_memoized`. A decorated call never replaces it: it creates it where it is missing, or has the version that
it read live longer. Else a call that began before `delete_memoized` could bring back the old version, and with it
all old values.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
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
    """The fences that the misses of a request, or of a thread where there is none, left for the writes after them.

    Thread-safe. None outlives its request; of a thread's at most `MAX_NOTES` are kept outside of requests.
    """

    def __init__(self) -> None:
        self._number = next(_numbers)

    def keep(self, fences: Mapping[str, Fence]) -> None:
        """Keep fences by key. In a request the earliest stays: what is computed may be as old as that one."""
        notes, in_request = self._notes(), has_request_context()
        for key, fence in fences.items():
            if in_request and (self._number, key) in notes:
                continue
            if len(notes) >= MAX_NOTES:
                notes.pop(next(iter(notes)), None)
            notes[self._number, key] = fence

    def look(self, key: str) -> Fence | None:
        """Return the fence of a key."""
        return self._notes().get((self._number, key))

    def replace(self, key: str, fence: Fence) -> None:
        """Keep a fence in the place of another."""
        self._notes()[self._number, key] = fence

    def take(self, key: str) -> Fence | None:
        """Return the fence of a key, and forget it."""
        return self._notes().pop((self._number, key), None)

    def forget(self, keys: Iterable[str]) -> None:
        """Forget the fences of these keys."""
        for key in keys:
            self.take(key)

    def forget_all(self) -> None:
        """Forget the fences of all keys."""
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
    """Say whether a key is that of a memoized function's version."""
    return key.endswith(VERSION_SUFFIX)


def may_fill(keys: Iterable[str]) -> bool:
    """Say whether a `get` of these keys that finds nothing makes the next `set` of them a fill."""
    if has_request_context() and not any(map(is_version, keys)):
        return True
    return in_decorated_call()


def in_decorated_call() -> bool:
    """Say whether Flask-Caching calls its backend for a decorated function, rather than for the application."""
    return decorated_call() is not None


def decorated_call() -> FrameType | None:
    """Return the frame of the decorated call for which Flask-Caching calls its backend, or None.

    It hands over keys and values and nothing else, so its frames are looked at, from the backend outwards, past
    the methods that only pass the call on (those of a subclass, too).
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
