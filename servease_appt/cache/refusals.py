"""What Redis refuses although it answers: no rights, read-only, full, unable to save, or not fit for the cache.

The cache needs RESP3, the database in the URL, and Lua scripts that begin with `#!lua`: at least Redis 7.0, or any
Valkey. A server without one of these is noted here, too, by the worker that connects to it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

log = logging.getLogger(__name__)

LOG_EVERY_S: Final = 60.0
LEAST_REDIS: Final = "7.0"
"""The least version of Redis; every Valkey is newer. Redis 6 does not know the first line of the scripts."""
SCRIPT_TEST: Final = "#!lua flags=no-writes\nreturn 1"
"""A script that changes nothing: a server that refuses it refuses the cache's scripts."""
CONNECT: Final = "connections"
"""The operation of connecting: `HELLO 3`, `AUTH` and `SELECT`."""
SCRIPTS: Final = "scripts"
"""The operation that a server of an old version refuses."""
_NO_RIGHT: Final = "NOPERM"


class OldServer(ResponseError):
    """The server is older than the least version that the cache needs."""


_BY_TYPE: Final = (
    (OldServer, "OLD_VERSION"),
    (AuthenticationError, "NOAUTH"),
    (NoPermissionError, _NO_RIGHT),
    (ReadOnlyError, "READONLY"),
    (OutOfMemoryError, "OOM"),
)
_BY_TEXT: Final = (
    ("NOPROTO", "NO_RESP3"),
    ("unknown command 'HELLO'", "NO_RESP3"),
    ("unknown command `HELLO`", "NO_RESP3"),
    ("DB index is out of range", "NO_DATABASE"),
    ("invalid DB index", "NO_DATABASE"),
    ("Error compiling script", "OLD_VERSION"),
    ("NOPERM", _NO_RIGHT),
    ("ACL failure in script", _NO_RIGHT),
    ("The user executing the script can't", _NO_RIGHT),
    ("READONLY", "READONLY"),
    ("OOM", "OOM"),
    ("MISCONF", "MISCONF"),
    ("NOREPLICAS", "NOREPLICAS"),
    ("unknown command", "UNKNOWN_COMMAND"),
)
_REMEDIES: Final = {
    "NO_RESP3": "The cache needs RESP3 (HELLO 3); RESP2 is not supported",
    "NO_DATABASE": "Name a database in the URL that the server has, such as /0",
    "OLD_VERSION": f"The cache needs Redis {LEAST_REDIS} or later, or Valkey",
}
_OF_CONNECTIONS: Final = frozenset({"NO_RESP3", "NO_DATABASE", "NOAUTH", "UNUSABLE"})
"""Causes that end with any success: a connection was made."""
_OF_WRITES: Final = frozenset({"READONLY", "OOM", "MISCONF", "NOREPLICAS"})
"""Causes that end with the success of any write."""
READS: Final = frozenset(
    {
        "read",
        "ttl_ms",
        "ping",
        "subscribe",
        "client tracking",
        "heartbeat",
        "EXISTS",
        "EVAL",
        CONNECT,
        SCRIPTS,
    }
)
"""Operations that a full server does not refuse: their success does not show that it takes writes."""


def cause_of(error: BaseException) -> str | None:
    """Return a word for why Redis refuses a command, Redis' own where it has one; None for any other error."""
    for kind, cause in _BY_TYPE:
        if isinstance(error, kind):
            return cause
    text = str(error).removeprefix("ERR ")
    return next((cause for start, cause in _BY_TEXT if text.startswith(start)), None)


def check_version(server: str, version: str) -> OldServer | None:
    """Return the error of a server that is too old for the cache's scripts; None if it is not, or not known.

    Args:
        server: what HELLO calls it, such as `redis` or `valkey`.
        version: its version, such as `7.0.15`.
    """
    major = version.partition(".")[0]
    if server != "redis" or not major.isdecimal() or int(major) >= int(LEAST_REDIS.partition(".")[0]):
        return None
    return OldServer(f"The server is {server} {version}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Redis refused a command."""

    cause: str
    """`NOPERM`, `READONLY`, `OOM`, `MISCONF`, `NOREPLICAS`, `UNKNOWN_COMMAND`, `NO_RESP3`, `NO_DATABASE`,
    `OLD_VERSION`, `NOAUTH`, or `UNUSABLE` for a connection that is refused for another reason."""
    reason: str
    """Redis' sentence, which may name the user, and what the cache needs."""


class Refusals:
    """The operations that Redis refuses at present. Thread-safe.

    An operation is refused until it succeeds again. A server that is full or read-only refuses every write, so
    the success of any write ends that, and any success ends what concerns connections. Rights are granted, and
    commands are known, one by one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._refused: dict[str, Refusal] = {}
        self._logged_at_s: dict[str, float] = {}

    @property
    def current(self) -> Refusal | None:
        """Why an operation is refused; None if none is. Costs one look at a dict."""
        refused = self._refused
        if not refused:
            return None
        with self._lock:
            return next(iter(refused.values()), None)

    def refused(self, operation: str, error: BaseException) -> None:
        """Note an error reply to an operation. Logs each cause once a minute at most."""
        cause = cause_of(error) or ("UNUSABLE" if operation == CONNECT else None)
        if cause is None:
            return
        reason = str(error).rstrip(". ")
        if cause in _REMEDIES:
            reason = f"{reason}. {_REMEDIES[cause]}"
        with self._lock:
            self._refused[operation] = Refusal(cause, reason)
            now_s = self._clock()
            is_due = now_s - self._logged_at_s.get(cause, float("-inf")) >= LOG_EVERY_S
            if is_due:
                self._logged_at_s[cause] = now_s
        if is_due:
            log.warning("Redis answers, and refuses %s (%s): %s", operation, cause, reason)

    def accepted(self, operation: str) -> None:
        """Note that an operation succeeded."""
        if not self._refused:
            return
        with self._lock:
            self._refused.pop(operation, None)
            ended = _OF_CONNECTIONS if operation in READS else _OF_CONNECTIONS | _OF_WRITES
            self._refused = {name: each for name, each in self._refused.items() if each.cause not in ended}
