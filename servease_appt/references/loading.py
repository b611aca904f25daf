"""Ask the services that own customers, vehicles and employees, each behind a circuit breaker of its own.

Page loads and bookings share the breakers. Bookings have places of their own, so that a service that hangs can't
take all threads of the process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from time import monotonic
from typing import Final, Protocol, TypeVar

from servease_appt.cache import LoadDenied, LoadFailed, ValueNotFound
from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.forks import after_fork
from servease_appt.clients import Denied, NotFound, UpstreamError, Upstreams
from servease_appt.clients.bulkhead import Bulkhead
from servease_appt.references.entities import ENTITIES, Reference

log = logging.getLogger(__name__)

UPSTREAM_FAILURES_TO_OPEN: Final = 5
UPSTREAM_COOL_DOWN_S: Final = 2.0
BOOKINGS_AT_ONCE: Final = 4
"""Bookings of one process that may wait for a service at a time: half of gunicorn's threads."""

AnswerT = TypeVar("AnswerT")


class UpstreamObserver(Protocol):
    """Receives each call to another service, and each change of a breaker."""

    def upstream_call(self, entity: str, seconds: float, outcome: str) -> None:
        """A call ended: `ok`, `not_found`, `denied` or `error`."""

    def breaker_changed(self, breaker: str, state: BreakerState) -> None:
        """The breaker of an entity's service opened or closed."""


class ReferenceSource:
    """Asks the owning services. Thread-safe; survives a fork.

    Args:
        slow_s: seconds after which a booking that waits for a service counts as held up.
        timeout_s: seconds that a booking waits for a place at most.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        *,
        slow_s: float,
        timeout_s: float,
        observer: UpstreamObserver | None = None,
    ) -> None:
        self._upstreams = upstreams
        self._slow_s = slow_s
        self._timeout_s = timeout_s
        self._observer = observer
        self._set_up()
        after_fork(self, ReferenceSource._set_up)

    def _set_up(self) -> None:
        self._breakers = {
            entity: Breaker(
                threshold=UPSTREAM_FAILURES_TO_OPEN,
                cool_down_s=UPSTREAM_COOL_DOWN_S,
                on_change=partial(self._on_breaker, entity),
            )
            for entity in ENTITIES
        }
        self._bookings = Bulkhead(BOOKINGS_AT_ONCE, slow_s=self._slow_s, longest_wait_s=self._timeout_s)

    def ask(self, entity: str, call: Callable[[Upstreams], AnswerT]) -> AnswerT:
        """Return what `call` returns, given the clients.

        The outcome is counted, and reported to the breaker of the entity's service: 404, 401 and 403 are answers,
        any other error is a failure.

        Raises:
            UpstreamError: `call` raised it, or the service failed a moment ago and is not asked.
        """
        breaker = self._breakers[entity]
        if not breaker.allows():
            raise UpstreamError(entity, "not asked, since it failed a moment ago")
        started_s = monotonic()
        outcome = "error"
        try:
            answer = call(self._upstreams)
            outcome = "ok"
        except NotFound:
            outcome = "not_found"
            raise
        except Denied:
            outcome = "denied"
            raise
        finally:
            if outcome == "error":
                breaker.failed()
            else:
                breaker.succeeded()
            if self._observer is not None:
                self._observer.upstream_call(entity, monotonic() - started_s, outcome)
        return answer

    def load(self, auth_token: str | None, key: str, timeout_s: float) -> Reference:
        """Load the value of a cache key: `customer_{uuid}` and the like.

        Raises:
            ValueNotFound, LoadDenied: the service said 404, or 401 or 403.
            LoadFailed: any other failure; the observer was called with it.
        """
        entity, _, id_ = key.partition("_")
        fetch = ENTITIES[entity].fetch
        try:
            return self.ask(entity, lambda upstreams: fetch(upstreams, id_, auth_token, timeout_s))
        except NotFound as error:
            raise ValueNotFound(key) from error
        except Denied as error:
            raise LoadDenied(key) from error
        except UpstreamError as error:
            raise LoadFailed(key) from error

    def booking_place(self) -> AbstractContextManager[None]:
        """Take one of the places of bookings. Raise BulkheadFull at once where all are held up by a service."""
        return self._bookings.place()

    def breaker_states(self) -> dict[str, BreakerState]:
        """Return the state of each service's breaker, by entity."""
        return {entity: breaker.state for entity, breaker in self._breakers.items()}

    def _on_breaker(self, entity: str, state: BreakerState) -> None:
        if state is BreakerState.OPEN:
            log.warning("The %s service fails: it is asked only now and then", entity)
        else:
            log.warning("The %s service answers again", entity)
        if self._observer is not None:
            self._observer.breaker_changed(entity, state)
