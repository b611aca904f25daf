"""What `TwoTierCache` offers on top of its reads, writes and invalidations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isinf
from types import TracebackType
from typing import Generic, Self, TypeVar

from servease_appt.cache.cached_function import CachedFunction
from servease_appt.cache.direct import Fence
from servease_appt.cache.l1 import L1, NOT_FOUND
from servease_appt.cache.lifetimes import Policies
from servease_appt.cache.loaders import Load, Loaded, LoadMany
from servease_appt.cache.results import Found, Lookup, NoValue, Source
from servease_appt.cache.tags import Tagged, tag_keys

V = TypeVar("V")


class Shortcuts(ABC, Generic[V]):
    """Methods that are made of other methods of the cache."""

    l1: L1[V]
    policies: Policies
    _clock: Callable[[], float]

    @abstractmethod
    def get_many(
        self,
        keys: Sequence[str],
        load: Load[V] | None = None,
        *,
        load_many: LoadMany[V] | None = None,
        timeout_s: float | None = None,
    ) -> Lookup[V]:
        """See `TwoTierCache`."""

    @abstractmethod
    def peek_many(self, keys: Sequence[str], *, fenced: bool = True) -> tuple[dict[str, V], dict[str, Fence]]:
        """See `TwoTierCache`."""

    @abstractmethod
    def write_many(self, values: Mapping[str, V], ttl_s: float | None) -> bool:
        """See `TwoTierCache`."""

    @abstractmethod
    def invalidate(self, keys: Iterable[str]) -> int:
        """See `TwoTierCache`."""

    @abstractmethod
    def close(self) -> None:
        """See `TwoTierCache`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def find(self, key: str, load: Load[V], *, timeout_s: float | None = None) -> Found[V]:
        """Return one value as `get` does, with its source, its age in L1, and the reason if there is none.

        Args:
            key: a codec's name, an underscore and an id.
            load: see `get_many`.
            timeout_s: see `get_many`.

        Raises:
            ValueError: the key belongs to no codec.
            RuntimeError: the cache is closed.
        """
        entry = self.l1.held((key,)).get(key)
        lookup = self.get_many((key,), load, timeout_s=timeout_s)
        value, no_value = lookup.values[key], lookup.no_values.get(key)
        age_s = 0.0 if entry is None or entry.value is not value else self._clock() - entry.loaded_at_s
        return Found(value, lookup.sources.get(key, Source.L1), age_s, no_value)

    def peek(self, key: str) -> Found[V]:
        """Return a cached value without loading it; `no_value` is `MISS` if no tier has it. Thread-safe.

        L2 is read if L1 does not hold the key. While Redis does not answer, L1 alone is read.

        Raises:
            ValueError: the key belongs to no codec.
            RuntimeError: the cache is closed.
        """
        entry = self.l1.held((key,)).get(key)
        value = self.peek_many((key,), fenced=False)[0].get(key)
        if value is None:
            absent = entry is not None and entry.value is NOT_FOUND
            return Found(None, Source.UNKNOWN, 0.0, NoValue.NOT_FOUND if absent else NoValue.MISS)
        if entry is None or entry.value is not value:
            return Found(value, Source.L2, 0.0)
        return Found(value, Source.L1, self._clock() - entry.loaded_at_s)

    def set(self, key: str, value: V, *, ttl_s: float | None = None) -> bool:
        """Store a value unconditionally, and drop the older one from every worker's L1. Thread-safe.

        A load that runs meanwhile can't replace it: its lease is deleted.
        Nothing is checked: a value that was computed before an invalidation and is set after it stays. `fill`
        refuses such a value.

        Args:
            key: a codec's name, an underscore and an id.
            value: what the codec encodes.
            ttl_s: TTL in L2 in seconds, more than 0; None: the policy's; `math.inf`: no expiry.

        Returns:
            False if Redis did not answer or refused the write.

        Raises:
            ValueError: the key belongs to no codec, or `ttl_s` is 0 or less.
        """
        lifetime_s = self.policies.of(key).ttl_s if ttl_s is None else ttl_s
        if lifetime_s <= 0:
            raise ValueError(f"ttl_s must be more than 0, not {ttl_s!r}")
        return self.write_many({key: value}, None if isinf(lifetime_s) else lifetime_s)

    def cached(
        self, name: str, *, timeout_s: float | None = None
    ) -> Callable[[Callable[[str], V | Loaded[V]]], CachedFunction[V]]:
        """Decorate a function of one id, which becomes the loader of the keys `name_id`.

        The function runs on a thread of the cache, once for all workers that miss the same id, and may return
        `Loaded`. It raises ValueNotFound if there is no value. See `CachedFunction` for what a call raises.

        Example:
            >>> with TwoTierCache.from_url(url, (json_codec("customer"),), prefix="my_service") as cache:
            ...     @cache.cached("customer")
            ...     def customer(customer_id):
            ...         return {"name": f"customer {customer_id}"}
            ...     customer("17")["name"], customer.invalidate("17")
            ('customer 17', 1)

        Args:
            name: the name of a codec.
            timeout_s: limit for a call of the function in seconds; None: `policy.load_timeout_s`.

        Raises:
            TypeError: by the decorator, if the function can't be called with one id, or is async.
        """
        return lambda function: CachedFunction(self, name, function, timeout_s)

    def tagged(self, *tags: str) -> Tagged[V]:
        """Return a view of this cache whose values have tags. The cache's codecs are those of `with_tags`.

        Example:
            >>> codecs = with_tags(json_codec("product"))
            >>> with TwoTierCache.from_url(url, codecs, prefix="my_service") as cache:
            ...     shop = cache.tagged("shop-5")
            ...     shop.get("product_17", lambda key, timeout_s: {"price": 3})["price"]
            ...     cache.invalidate_tags(["shop-5"])
            ...     shop.get("product_17", lambda key, timeout_s: {"price": 4})["price"]
            3
            1
            4

        Raises:
            ValueError: no tag is given.
        """
        return Tagged(self, tags)

    def invalidate_tags(self, tags: Iterable[str]) -> int:
        """Drop all values with any of these tags, by one round trip however many there are. Thread-safe.

        See `invalidate` for what holds once it has returned. Values of other workers' L1 are not served any more
        as soon as these workers have handled the message.

        Returns:
            The number of distinct tags.

        Raises:
            CacheUnavailable: Redis did not accept it.
            ValueError: the cache has no codec for tags (see `with_tags`).
        """
        return self.invalidate(tag_keys(tags))
