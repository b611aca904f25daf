"""Builds with one protection taken out, to show that the experiments find what they are for.

    python -m faults --only NAME --broken PROTECTION

serves such a build: `broken_wsgi.py` takes the protection out in each worker before the application is made, and
the experiment's own process lacks it, too. The exit code is 0 only if that was found.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

VARIABLE: Final = "FAULTS_BROKEN"
APPLICATION: Final = "faults.broken_wsgi:app"

_SHARED_THREADS: Final = 4


def apply(name: str) -> None:
    """Take a protection out of this process. Raises KeyError for an unknown name."""
    BREAKS[name]()


def apply_from_environment() -> None:
    """Take out what the variable names."""
    apply(os.environ[VARIABLE])


def _replace(owner: Any, name: str, replacement: object) -> None:
    if not hasattr(owner, name):
        raise AttributeError(f"{owner} has no {name} any more")
    setattr(owner, name, replacement)


def _nothing(*_: object, **__: object) -> None:
    """Do nothing."""


def _own_l1_kept() -> None:
    """Invalidations leave the L1 of the process that carries them out as it is."""
    from servease_appt.cache.invalidation import Invalidator

    _replace(Invalidator, "drop", _nothing)


def _lost_channel_unnoticed() -> None:
    """L1 is not emptied after a new subscription or a lost message, and changes in Redis are not followed."""
    from servease_appt.cache.gathered import Gathered
    from servease_appt.cache.invalidation import Invalidator

    _replace(Invalidator, "drop_all", _nothing)
    _replace(Gathered, "add_changed", _nothing)


def _shared_load_threads() -> None:
    """Loads from all services share a few threads."""
    from servease_appt.cache.load_threads import LoadThreads

    make = LoadThreads.__init__

    def make_with_one_lane(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        self._limit = _SHARED_THREADS
        self._lanes = dict.fromkeys(self._lanes, next(iter(self._lanes.values())))

    _replace(LoadThreads, "__init__", make_with_one_lane)


def _leases_ignored() -> None:
    """A worker that finds a key's lease held loads the key itself."""
    from servease_appt.cache.batch_load import BatchLoad
    from servease_appt.cache.l2.protocol import LeaseState

    has_to_load = BatchLoad._has_to_load  # noqa: SLF001 - a protection that is taken out has no public name

    def loads_anyway(self: Any, flight: Any, lease: Any, epoch: Any) -> bool:
        return lease.state is LeaseState.HELD or has_to_load(self, flight, lease, epoch)

    _replace(BatchLoad, "_has_to_load", loads_anyway)


def _publish_tried_once() -> None:
    """A plain PUBLISH that can't be carried out at once is dropped."""
    from servease_appt.cache.plain_requests import PlainRequests

    run = PlainRequests._run  # noqa: SLF001

    def run_once(self: Any) -> None:
        run(self)
        self._keys.clear()

    _replace(PlainRequests, "_run", run_once)


def _rollback_unnoticed() -> None:
    """The values of a server, or of a node of a cluster, that has lost invalidations are used."""
    from servease_appt.cache.recovery import Recovery

    _replace(Recovery, "distrust_l2", _nothing)
    _replace(Recovery, "distrust_node", _nothing)


def _acknowledged_without_replicas() -> None:
    """Invalidations are acknowledged by a primary alone, whether or not it is cut off."""
    from servease_appt.cache.l2.sentinel_primary import SentinelL2

    _replace(SentinelL2, "_replicas_needed", lambda _: 0)


def _no_advisory_locks() -> None:
    """Bookings and changes check the rules without the locks that keep others out meanwhile."""
    from servease_appt.appointments import locks

    _replace(locks, "take", _nothing)


def _no_row_locks() -> None:
    """Changes read an appointment without locking its row."""
    from servease_appt.appointments import store

    find = store.find

    def find_unlocked(*where: Any, **_: Any) -> Any:
        return find(*where)

    _replace(store, "find", find_unlocked)


def _keys_ignored() -> None:
    """A booking that is sent again is booked again."""
    from servease_appt.appointments import booking

    book = booking.book

    def book_anew(*given: Any, once: object = None, **named: Any) -> Any:  # noqa: ARG001
        return book(*given, **named)

    _replace(booking, "book", book_anew)


def _no_shedding() -> None:
    """Every request is queued, for as long as it takes, and probes wait with the others."""
    from servease_appt.serving import worker

    _replace(worker.BufferingWorker, "requests_per_thread", 1_000_000)
    _replace(worker.BufferingWorker, "max_queued_s", 1e9)
    _replace(worker, "PROBES", (b"/no-such-probe",))


BREAKS: Final[dict[str, Callable[[], None]]] = {
    "own-l1-kept": _own_l1_kept,
    "lost-channel-unnoticed": _lost_channel_unnoticed,
    "shared-load-threads": _shared_load_threads,
    "leases-ignored": _leases_ignored,
    "publish-tried-once": _publish_tried_once,
    "rollback-unnoticed": _rollback_unnoticed,
    "acknowledged-without-replicas": _acknowledged_without_replicas,
    "no-advisory-locks": _no_advisory_locks,
    "no-row-locks": _no_row_locks,
    "keys-ignored": _keys_ignored,
    "no-shedding": _no_shedding,
}
