"""Names for a page, read through the cache, and single records for code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol
from uuid import UUID

from servease_appt.cache import CachePolicy, LoadDenied, Lookup, Source, TwoTierCache
from servease_appt.cache.breaker import BreakerState
from servease_appt.clients import Upstreams
from servease_appt.clients.service_token import ServiceToken
from servease_appt.identifiers import canonical_uuid
from servease_appt.references.entities import CUSTOMER, EMPLOYEE, ENTITIES, VEHICLE, Reference
from servease_appt.references.loading import ReferenceSource, UpstreamObserver
from servease_appt.references.read_times import ReadObserver, ReadTimes
from servease_appt.settings import Settings

SOFT_SHARE_OF_TIMEOUT: Final = 0.25
Load = Callable[[str, float], Reference]
_BEYOND_L1: Final = (Source.L2, Source.UPSTREAM, Source.STALE, Source.UNKNOWN)
_NONE_BEYOND_L1: Final = " ".join(f"{source}=0" for source in _BEYOND_L1)


class PageObserver(UpstreamObserver, ReadObserver, Protocol):
    """Receives each answer with names, how long reads of the tiers take, and each call to another service."""

    def page(self, endpoint: str, asked: int, lookup: Lookup[Reference]) -> None:
        """An answer of `endpoint` was given names for `asked` references."""


class PageTracing(Protocol):
    """Traces the lookups of an answer."""

    def look_up(
        self,
        endpoint: str,
        asked: int,
        get: Callable[[Load], Lookup[Reference]],
        load: Load,
    ) -> Lookup[Reference]:
        """Return `get(load)`."""


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
    """Return the cache's lifetimes and deadlines as the operator has set them."""
    return CachePolicy(
        ttl_s=settings.cache_timeout_s,
        l1_ttl_s=min(settings.cache_l1_timeout_s, settings.cache_timeout_s),
        l1_maxsize=settings.cache_l1_maxsize,
        negative_ttl_s=settings.cache_negative_timeout_s,
        stale_ttl_s=settings.cache_stale_timeout_s,
        tracking=settings.cache_tracking,
        load_timeout_s=settings.upstream_timeout_s,
        soft_timeout_s=settings.upstream_timeout_s * SOFT_SHARE_OF_TIMEOUT,
    )


class Lookups:
    """Reads references through the cache. Thread-safe; never raises for a service or a Redis that is down.

    Attributes:
        cache: the two-tier cache that is read.
        source: the services behind it, which bookings ask past the cache.
        on_invalidated: called with the entity and the canonical ids that `invalidate` has dropped.
    """

    def __init__(
        self,
        cache: TwoTierCache[Reference],
        upstreams: Upstreams,
        *,
        service_token: ServiceToken | None = None,
        observer: PageObserver | None = None,
        tracing: PageTracing | None = None,
    ) -> None:
        self.cache = cache
        self.on_invalidated: Callable[[str, tuple[str, ...]], None] = lambda _entity, _ids: None
        self.source = ReferenceSource(
            upstreams,
            slow_s=cache.policy.soft_timeout_s,
            timeout_s=cache.policy.load_timeout_s,
            observer=observer,
        )
        self._service_token = service_token
        self._observer = observer
        self._read_times = None if observer is None else ReadTimes(observer)
        self._tracing = tracing

    def page_names(
        self,
        customer_ids: Iterable[str],
        vehicle_ids: Iterable[str],
        employee_ids: Iterable[str | None],
        auth_token: str | None,
        endpoint: str,
    ) -> PageNames:
        """Return names for all that one answer shows: L1, one Redis command, then the services side by side."""
        customers = {id_: f"customer_{id_}" for id_ in customer_ids}
        vehicles = {id_: f"vehicle_{id_}" for id_ in vehicle_ids}
        employees = {id_: f"employee_{id_}" for id_ in employee_ids if id_ is not None}
        keys = [*customers.values(), *vehicles.values(), *employees.values()]
        load = self._load_as(auth_token)
        started_s = perf_counter()
        if self._tracing is None:
            lookup = self.cache.get_many(keys, load)
        else:
            lookup = self._tracing.look_up(endpoint, len(keys), partial(self.cache.get_many, keys), load)
        if self._read_times is not None:
            self._read_times.note(started_s, perf_counter(), keys, lookup)
        if self._observer is not None:
            self._observer.page(endpoint, len(keys), lookup)
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
        """Return one record as a dict, or None where it can't be had. Raise ValueError for what is not a UUID."""
        reference = self.cache.get(_key(entity, id_), self._load_as(auth_token))
        return None if reference is None else dict(reference.fields)

    def warm(self, keys: list[str], auth_token: str | None) -> Lookup[Reference]:
        """Bring keys into L2 and this process's L1."""
        return self.cache.get_many(keys, self._load_as(auth_token))

    def invalidate(self, entity: str, ids: Iterable[str | UUID]) -> int:
        """Drop records from both tiers of every worker; return how many distinct ids were given.

        Raises:
            CacheUnavailable: Redis can't take it.
            ValueError: an unknown entity, or an id that is not a UUID.
        """
        keys = [_key(entity, id_) for id_ in ids]
        invalidated = self.cache.invalidate(keys)
        self.on_invalidated(entity, tuple(key.removeprefix(f"{entity}_") for key in keys))
        return invalidated

    def ask_source(self, key: str) -> Reference:
        """Return what the service that owns a key says now, past the cache, with the service's own token.

        Raises ValueNotFound, LoadDenied or LoadFailed; LoadDenied also where there is no token of our own.
        """
        if self._service_token is None:
            raise LoadDenied(key)
        return self.source.load(self._service_token.get(), key, self.cache.policy.load_timeout_s)

    def mode(self) -> str:
        """Return the cache's mode by name."""
        return self.cache.mode.value

    def breaker_states(self) -> dict[str, BreakerState]:
        """Return the state of each service's breaker, by entity."""
        return self.source.breaker_states()

    def _load_as(self, auth_token: str | None) -> Load:
        token = self._service_token.get() if self._service_token is not None else auth_token
        return partial(self.source.load, token)


def _texts(keys: Mapping[str, str], values: Mapping[str, Reference | None], entity: str) -> dict[str, str]:
    """Return what to show for each id of one entity, given with its key."""
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
