"""Where the cache and the clients meet: names for a page, records for code, and their invalidation."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol
from uuid import UUID

from flask import current_app

from servease_appt.cache import CachePolicy, LoadDenied, Lookup, Source, TwoTierCache, ValueNotFound
from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.forks import after_fork
from servease_appt.clients import Denied, NotFound, UpstreamError, Upstreams
from servease_appt.clients.service_token import ServiceToken
from servease_appt.identifiers import canonical_uuid
from servease_appt.references.entities import CUSTOMER, EMPLOYEE, ENTITIES, VEHICLE, Reference
from servease_appt.settings import Settings

log = logging.getLogger(__name__)

UPSTREAM_FAILURES_TO_OPEN: Final = 5
UPSTREAM_COOL_DOWN_S: Final = 2.0
SOFT_SHARE_OF_TIMEOUT: Final = 0.25
_BEYOND_L1: Final = (Source.L2, Source.UPSTREAM, Source.STALE, Source.UNKNOWN)
_NONE_BEYOND_L1: Final = " ".join(f"{source}=0" for source in _BEYOND_L1)


class PageObserver(Protocol):
    """Hears of each answer with names, and of each call to another service."""

    def page(self, endpoint: str, asked: int, lookup: Lookup[Reference]) -> None:
        """An answer of `endpoint` was given names for `asked` references."""

    def upstream_call(self, entity: str, seconds: float, outcome: str) -> None:
        """A call ended: `ok`, `not_found`, `denied` or `error`."""

    def breaker_changed(self, breaker: str, state: BreakerState) -> None:
        """The breaker of an entity's service opened or closed."""


@dataclass(frozen=True, slots=True)
class PageNames:
    """Texts to show, by id; every id asked for is there, with its placeholder where nothing better is known."""

    customers: dict[str, str]
    vehicles: dict[str, str]
    employees: dict[str | None, str]
    x_cache: str
    cache_ms: float
    upstream_ms: float


def cache_policy(settings: Settings) -> CachePolicy:
    """The cache's lifetimes and deadlines as the operator has set them."""
    return CachePolicy(
        ttl_s=settings.cache_timeout_s,
        l1_ttl_s=min(settings.cache_l1_timeout_s, settings.cache_timeout_s),
        l1_maxsize=settings.cache_l1_maxsize,
        negative_ttl_s=settings.cache_negative_timeout_s,
        stale_ttl_s=settings.cache_stale_timeout_s,
        load_timeout_s=settings.upstream_timeout_s,
        soft_timeout_s=settings.upstream_timeout_s * SOFT_SHARE_OF_TIMEOUT,
    )


class Lookups:
    """Reads references through the cache. Thread-safe; never raises for a service or a Redis that is away."""

    def __init__(
        self,
        cache: TwoTierCache[Reference],
        upstreams: Upstreams,
        *,
        service_token: ServiceToken | None = None,
        observer: PageObserver | None = None,
    ) -> None:
        self.cache = cache
        self._upstreams = upstreams
        self._service_token = service_token
        self._observer = observer
        self._set_up()
        after_fork(self, Lookups._set_up)

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._endpoints: dict[str, Counter[str]] = {}
        self.breakers = {
            entity: Breaker(
                threshold=UPSTREAM_FAILURES_TO_OPEN,
                cool_down_s=UPSTREAM_COOL_DOWN_S,
                on_change=partial(self._on_breaker, entity),
            )
            for entity in ENTITIES
        }

    def page_names(
        self,
        customer_ids: Iterable[str],
        vehicle_ids: Iterable[str],
        employee_ids: Iterable[str | None],
        auth_token: str | None,
        endpoint: str,
    ) -> PageNames:
        """Names for everything that one answer shows: L1, one Redis command, then the services side by side."""
        customers = {id_: f"customer_{id_}" for id_ in customer_ids}
        vehicles = {id_: f"vehicle_{id_}" for id_ in vehicle_ids}
        employees = {id_: f"employee_{id_}" for id_ in employee_ids if id_ is not None}
        keys = [*customers.values(), *vehicles.values(), *employees.values()]
        lookup = self.cache.get_many(keys, self._load_as(auth_token))
        self._count_page(endpoint, keys, lookup)
        values = lookup.values
        return PageNames(
            customers=_texts(customers, values, CUSTOMER),
            vehicles=_texts(vehicles, values, VEHICLE),
            employees={None: ENTITIES[EMPLOYEE].placeholder} | _texts(employees, values, EMPLOYEE),
            x_cache=_x_cache(len(keys), lookup),
            cache_ms=lookup.cache_s * 1000,
            upstream_ms=lookup.upstream_s * 1000,
        )

    def get(self, entity: str, id_: str | UUID, auth_token: str | None = None) -> dict[str, Any] | None:
        """One record as a dict, or None where it can't be had. Raises ValueError for what is no UUID."""
        reference = self.cache.get(_key(entity, id_), self._load_as(auth_token))
        return None if reference is None else dict(reference.fields)

    def warm(self, keys: list[str], auth_token: str | None) -> Lookup[Reference]:
        """Bring keys into L2 and this process's L1."""
        return self.cache.get_many(keys, self._load_as(auth_token))

    def invalidate(self, entity: str, ids: Iterable[str | UUID]) -> int:
        """Drop records from both tiers of every worker; returns how many distinct ids were given.

        Raises CacheUnavailable when Redis can't take it, ValueError for an unknown entity or what is no UUID.
        """
        return self.cache.invalidate([_key(entity, id_) for id_ in ids])

    def ask_source(self, key: str) -> Reference:
        """What the service that owns a key says now, past the cache, in the service's own name.

        Raises ValueNotFound, LoadDenied or UpstreamError; also where this service has no token of its own.
        """
        if self._service_token is None:
            raise LoadDenied(key)
        return self._load(self._service_token.get(), key, self.cache.policy.load_timeout_s)

    def mode(self) -> str:
        """The cache's mode by name."""
        return self.cache.mode.value

    def endpoint_counts(self) -> dict[str, dict[str, int]]:
        """References by endpoint and by where they came from, of this process."""
        with self._lock:
            return {
                endpoint: {str(source): n for source, n in counts.items()}
                for endpoint, counts in self._endpoints.items()
            }

    def _load_as(self, auth_token: str | None) -> Callable[[str, float], Reference]:
        token = self._service_token.get() if self._service_token is not None else auth_token
        return partial(self._load, token)

    def _load(self, auth_token: str | None, key: str, timeout_s: float) -> Reference:
        """Ask the service that owns a key. This is where its errors become the cache's."""
        entity, _, id_ = key.partition("_")
        breaker = self.breakers[entity]
        if not breaker.allows():
            raise UpstreamError(entity, "not asked, since it failed a moment ago")
        started_s = monotonic()
        outcome = "error"
        try:
            reference = ENTITIES[entity].fetch(self._upstreams, id_, auth_token, timeout_s)
            outcome = "ok"
        except NotFound as error:
            outcome = "not_found"
            raise ValueNotFound(key) from error
        except Denied as error:
            outcome = "denied"
            raise LoadDenied(key) from error
        finally:
            if outcome == "error":
                breaker.failed()
            else:
                breaker.succeeded()
            if self._observer is not None:
                self._observer.upstream_call(entity, monotonic() - started_s, outcome)
        return reference

    def _count_page(self, endpoint: str, keys: list[str], lookup: Lookup[Reference]) -> None:
        with self._lock:
            counts = self._endpoints.setdefault(endpoint, Counter())
            counts[Source.L1] += len(keys) - len(lookup.sources)
            if lookup.sources:
                counts.update(lookup.sources.values())
        if self._observer is not None:
            self._observer.page(endpoint, len(keys), lookup)

    def _on_breaker(self, entity: str, state: BreakerState) -> None:
        if state is BreakerState.OPEN:
            log.warning("The %s service fails: it is asked only now and then", entity)
        else:
            log.warning("The %s service answers again", entity)
        if self._observer is not None:
            self._observer.breaker_changed(entity, state)

    def breaker_states(self) -> dict[str, BreakerState]:
        """Each service's breaker, by entity."""
        return {entity: breaker.state for entity, breaker in self.breakers.items()}


def _texts(keys: Mapping[str, str], values: Mapping[str, Reference | None], entity: str) -> dict[str, str]:
    """What to show for each id of one entity, given with its key."""
    placeholder = ENTITIES[entity].placeholder
    return {
        id_: placeholder if (reference := values[key]) is None else reference.display
        for id_, key in keys.items()
    }


def _key(entity: str, id_: str | UUID) -> str:
    if entity not in ENTITIES:
        raise ValueError(f"{entity!r} is no entity: allowed are {', '.join(ENTITIES)}")
    canonical = canonical_uuid(str(id_))
    if canonical is None:
        raise ValueError(f"{str(id_)!r} is no UUID such as 5f0c7a52-0b1d-4c57-9c7a-2f6f0a3c1d11")
    return f"{entity}_{canonical}"


def _x_cache(references_asked: int, lookup: Lookup[Reference]) -> str:
    l1 = references_asked - len(lookup.sources)
    if not lookup.sources:
        return f"l1={l1} {_NONE_BEYOND_L1}"
    counts = Counter(lookup.sources.values())
    return " ".join([f"l1={l1}", *(f"{source}={counts[source]}" for source in _BEYOND_L1)])


# For code that runs in an application context


def _lookups() -> Lookups:
    lookups: Lookups = current_app.extensions["servease"].lookups
    return lookups


def _get_cached(entity: str, id_: str | UUID, auth_token: str | None) -> dict[str, Any]:
    found = _lookups().get(entity, id_, auth_token)
    return found or {"id": str(id_), **ENTITIES[entity].fallback}


def get_customer_cached(customer_id: str | UUID, auth_token: str | None = None) -> dict[str, Any]:
    """`{"id", "full_name", "email"}`; with `Unknown` and `""` where the customer can't be had.

    Never raises for a service or a Redis that is away; ValueError for what is no UUID.
    """
    return _get_cached(CUSTOMER, customer_id, auth_token)


def get_vehicle_cached(vehicle_id: str | UUID, auth_token: str | None = None) -> dict[str, Any]:
    """`{"id", "year", "make", "model"}`, with `""` each where it can't be had. Raises as `get_customer_cached`."""
    return _get_cached(VEHICLE, vehicle_id, auth_token)


def get_employee_cached(employee_id: str | UUID, auth_token: str | None = None) -> dict[str, Any]:
    """`{"id", "full_name"}`, with `Unassigned` where they can't be had. Raises as `get_customer_cached`."""
    return _get_cached(EMPLOYEE, employee_id, auth_token)


def invalidate_customer_cache(customer_id: str | UUID) -> None:
    """Drop a customer from both tiers of every worker. Raises CacheUnavailable when Redis can't take it."""
    _lookups().invalidate(CUSTOMER, [customer_id])


def invalidate_vehicle_cache(vehicle_id: str | UUID) -> None:
    """Drop a vehicle, as `invalidate_customer_cache`."""
    _lookups().invalidate(VEHICLE, [vehicle_id])


def invalidate_employee_cache(employee_id: str | UUID) -> None:
    """Drop an employee, as `invalidate_customer_cache`."""
    _lookups().invalidate(EMPLOYEE, [employee_id])
