"""Which commands Redis refuses although it answers: no rights, read-only, full, or unable to save."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError

log = logging.getLogger(__name__)

LOG_EVERY_S: Final = 60.0
_NO_RIGHT: Final = "NOPERM"
_BY_TYPE: Final = ((NoPermissionError, _NO_RIGHT), (ReadOnlyError, "READONLY"), (OutOfMemoryError, "OOM"))
_BY_TEXT: Final = (
    ("NOPERM", _NO_RIGHT),
    ("ACL failure in script", _NO_RIGHT),
    ("The user executing the script can't", _NO_RIGHT),
    ("READONLY", "READONLY"),
    ("OOM", "OOM"),
    ("MISCONF", "MISCONF"),
    ("NOREPLICAS", "NOREPLICAS"),
    ("unknown command", "UNKNOWN_COMMAND"),
)
READS: Final = frozenset({"read", "ttl_ms", "ping", "subscribe", "client tracking", "heartbeat"})
"""Operations that a full server does not refuse: their success does not show that it takes writes."""


def cause_of(error: BaseException) -> str | None:
    """Return Redis' word for why it refuses a command, such as `NOPERM`; None for any other error."""
    for kind, cause in _BY_TYPE:
        if isinstance(error, kind):
            return cause
    text = str(error).removeprefix("ERR ")
    return next((cause for start, cause in _BY_TEXT if text.startswith(start)), None)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Redis refused a command."""

    cause: str
    """`NOPERM`, `READONLY`, `OOM`, `MISCONF`, `NOREPLICAS` or `UNKNOWN_COMMAND`."""
    reason: str
    """Redis' sentence, which may name the user."""


class Refusals:
    """The operations that Redis refuses at present. Thread-safe.

    An operation is refused until it succeeds again. A server that is full or read-only refuses every write, so
    the success of any write ends that; rights are granted for each command.
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
        cause = cause_of(error)
        if cause is None:
            return
        reason = str(error).rstrip(".")
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
            if operation not in READS:
                self._refused = {
                    name: refusal for name, refusal in self._refused.items() if refusal.cause == _NO_RIGHT
                }
