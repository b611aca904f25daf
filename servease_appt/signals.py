"""Signals for a host's code that wants to know of changes: blinker signals, as Flask's own are.

They are sent in the process where the change was made, after it is stored; the sender is the application. A
receiver that raises is logged and changes nothing: what it is told of has happened.

Example:
    >>> def refresh(app: Flask, *, appointment_id: str, change: str, **_: object) -> None:
    ...     print(appointment_id, change)
    >>> with appointment_changed.connected_to(refresh):
    ...     announce(appointment_changed, Flask("garage"), appointment_id="4711", change="confirmed")
    4711 confirmed
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, cast

from blinker import NamedSignal, Namespace
from flask import Flask, current_app

_log = logging.getLogger(__name__)
_signals: Final = Namespace()

appointment_changed: Final = _signals.signal("appointment-changed")
"""An appointment was booked, changed or deleted through the API.

Keywords: `appointment_id`, and `change`: `booked`, `edited`, `deleted`, `rescheduled`, `assigned`, or the new
status.
"""

reference_invalidated: Final = _signals.signal("reference-invalidated")
"""Cached customers, vehicles or employees were invalidated: by the API, the dashboard, a function or a command.

Keywords: `entity` (`customer`, `vehicle` or `employee`) and `ids`, a tuple of canonical UUIDs.
"""


def announce(signal: NamedSignal, app: Flask | None = None, **what: Any) -> None:
    """Send `signal` to each of its receivers.

    Args:
        signal: one of this module's.
        app: the sender; None for the current application.
        **what: the signal's keywords.
    """
    if not signal.receivers:
        return
    sender = app or cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined] # noqa: SLF001
    for receiver in cast("list[Callable[..., object]]", list(signal.receivers_for(sender))):
        try:
            sender.ensure_sync(receiver)(sender, **what)
        except Exception:  # noqa: BLE001 - whatever a receiver of a host's raises
            _log.exception("A receiver of the signal %s failed", signal.name)
