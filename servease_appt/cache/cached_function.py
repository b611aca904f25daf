"""The function that `TwoTierCache.cached` returns."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from servease_appt.cache.errors import LoadDenied, LoadFailed, ValueNotFound
from servease_appt.cache.loaders import Load, Loaded
from servease_appt.cache.results import Found, NoValue

V = TypeVar("V")

_ERRORS = {NoValue.NOT_FOUND: ValueNotFound, NoValue.DENIED: LoadDenied}


class _Cache(Protocol[V]):
    """What a cached function needs of a cache."""

    def find(self, key: str, load: Load[V], *, timeout_s: float | None = None) -> Found[V]: ...

    def invalidate(self, keys: Iterable[str]) -> int: ...


class CachedFunction(Generic[V]):
    """A function of one id whose results are cached. Thread-safe. Made by `TwoTierCache.cached`.

    Example:
        >>> with TwoTierCache.from_url(url, (json_codec("vehicle"),), prefix="my_service") as cache:
        ...     @cache.cached("vehicle")
        ...     def vehicle(vehicle_id):
        ...         return Loaded({"id": vehicle_id}, ttl_s=30)
        ...     vehicle("7")["id"], vehicle.key("7")
        ('7', 'vehicle_7')
    """

    def __init__(
        self, cache: _Cache[V], name: str, function: Callable[[str], V | Loaded[V]], timeout_s: float | None
    ) -> None:
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"a cached function returns a value, so it can't be async: {function!r}")
        try:
            inspect.signature(function).bind("id")
        except TypeError as error:
            raise TypeError(f"a cached function takes an id, which {function!r} does not: {error}") from None
        except ValueError:
            pass  # a built-in without a signature
        self._cache = cache
        self._name = name
        self._function = function
        self._timeout_s = timeout_s
        functools.update_wrapper(self, function)

    def __call__(self, id_: str) -> V:
        """Return the value of an id, from the nearest tier or by calling the function.

        Raises:
            ValueNotFound: the function has raised it, now or within `CachePolicy.negative_ttl_s`.
            LoadDenied: the function has raised it.
            LoadFailed: the function has raised anything else or took too long, and there is no stale copy.
            RuntimeError: the cache is closed.
        """
        key = self.key(id_)
        found = self._cache.find(key, self._load, timeout_s=self._timeout_s)
        if found.value is None:
            raise _ERRORS.get(found.no_value or NoValue.FAILED, LoadFailed)(key)
        return found.value

    def key(self, id_: str) -> str:
        """Return the cache's key of an id."""
        return f"{self._name}_{id_}"

    def invalidate(self, *ids: str) -> int:
        """Drop the values of these ids from both tiers of every worker. See `TwoTierCache.invalidate`."""
        return self._cache.invalidate(map(self.key, ids))

    def _load(self, key: str, _timeout_s: float) -> V | Loaded[V]:
        return self._function(key.partition("_")[2])
