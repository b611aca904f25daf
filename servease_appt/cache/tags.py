"""Tags: one invalidation for any number of values.

A tag has a generation, a random text that is itself a cached value. The names of tagged values contain the
generations of their tags. To invalidate a tag is to invalidate its generation: the next read makes a new one, and
no read asks for the old names any more, which expire by their TTL. So the protocol knows nothing of tags. A load
that began before the invalidation stores its result under an old name.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from servease_appt.cache.codecs import Codec
from servease_appt.cache.errors import CacheError
from servease_appt.cache.lifetimes import Lifetimes
from servease_appt.cache.loaders import Load, Loaded, LoadMany
from servease_appt.cache.results import Lookup

V = TypeVar("V")

TAG = "tag"
MARK = "~"
"""Separates the id of a tagged key from the hash of its tags' generations."""
_GENERATIONS_LIVE = Lifetimes(ttl_s=30 * 86400.0, negative_ttl_s=0.0, stale_ttl_s=0.0)


def with_tags(*codecs: Codec[Any]) -> tuple[Codec[Any], ...]:
    """Return codecs for a cache with tags: these, whose values may be tagged, and the one of the tags.

    Example:
        >>> [codec.name for codec in with_tags(json_codec("product"))]
        ['product', 'tag']

    Raises:
        ValueError: a codec has the name `tag`.
    """
    if any(codec.name == TAG for codec in codecs):
        raise ValueError(f"the name {TAG!r} belongs to the generations of tags")
    generations: Codec[Any] = Codec(
        TAG, encode=str.encode, decode=lambda payload, _: payload.decode(), lifetimes=_GENERATIONS_LIVE
    )
    return (*map(_taggable, codecs), generations)


def tag_keys(tags: Iterable[str]) -> list[str]:
    """Return the keys of the tags' generations."""
    return [f"{TAG}_{tag}" for tag in tags]


class _Cache(Protocol[V]):
    """What tags need of a cache."""

    def get_many(
        self,
        keys: Sequence[str],
        load: Load[V] | None = None,
        *,
        load_many: LoadMany[V] | None = None,
        timeout_s: float | None = None,
    ) -> Lookup[V]: ...

    def set(self, key: str, value: V, *, ttl_s: float | None = None) -> bool: ...

    def invalidate(self, keys: Iterable[str]) -> int: ...


class Tagged(Generic[V]):
    """A view of a cache whose values have tags. Thread-safe. Made by `TwoTierCache.tagged`.

    A value belongs to the tags with which it is read or set: the same key with other tags is another value.

    Example:
        >>> with TwoTierCache.from_url(url, with_tags(json_codec("product")), prefix="my_service") as cache:
        ...     menu = cache.tagged("lunch", "summer")
        ...     menu.set("product_1", {"name": "soup"})
        ...     menu.get("product_1", lambda key, timeout_s: {"name": "another soup"})["name"]
        True
        'soup'
    """

    def __init__(self, cache: _Cache[V], tags: Iterable[str]) -> None:
        self._cache = cache
        self._tags = tag_keys(sorted(set(tags)))
        if not self._tags:
            raise ValueError("at least one tag is needed")

    def get(self, key: str, load: Load[V], *, timeout_s: float | None = None) -> V | None:
        """Return one value. See `TwoTierCache.get`."""
        return self.get_many((key,), load, timeout_s=timeout_s).values[key]

    def get_many(
        self,
        keys: Sequence[str],
        load: Load[V] | None = None,
        *,
        load_many: LoadMany[V] | None = None,
        timeout_s: float | None = None,
    ) -> Lookup[V]:
        """Return many values. See `TwoTierCache.get_many`.

        Costs one round trip more if L1 does not hold the generations of the tags.
        """
        names = self._names(keys)
        plain = {name: key for key, name in names.items()}
        if load_many is not None:
            lookup = self._cache.get_many(
                list(plain), load_many=_with_plain_keys(load_many, names), timeout_s=timeout_s
            )
        elif load is not None:
            wanted: Load[V] = load
            lookup = self._cache.get_many(
                list(plain), lambda name, left_s: wanted(plain[name], left_s), timeout_s=timeout_s
            )
        else:
            raise TypeError("get_many needs load or load_many")
        return replace(
            lookup,
            values={plain[name]: value for name, value in lookup.values.items()},
            sources={plain[name]: source for name, source in lookup.sources.items()},
            no_values={plain[name]: reason for name, reason in lookup.no_values.items()},
        )

    def set(self, key: str, value: V, *, ttl_s: float | None = None) -> bool:
        """Store a value unconditionally. See `TwoTierCache.set`."""
        return self._cache.set(self._names((key,))[key], value, ttl_s=ttl_s)

    def invalidate(self, keys: Iterable[str]) -> int:
        """Drop some keys with these tags. `TwoTierCache.invalidate_tags` drops all keys of a tag."""
        return self._cache.invalidate(self._names(list(keys)).values())

    def _names(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the cache's keys of tagged keys."""
        generations = self._cache.get_many(self._tags, _new_generation).values
        digest = hashlib.blake2b(digest_size=8)
        for tag in self._tags:
            # None after a failure: a generation that no other call uses is as good as a miss.
            digest.update(f"{tag}={generations[tag] or secrets.token_hex(8)}\n".encode())
        return {key: f"{key}{MARK}{digest.hexdigest()}" for key in keys}


def _new_generation(_key: str, _timeout_s: float) -> Any:
    return secrets.token_hex(8)


def _with_plain_keys(load_many: LoadMany[V], names: dict[str, str]) -> LoadMany[V]:
    plain = {name: key for key, name in names.items()}

    def load(wanted: Sequence[str], timeout_s: float) -> dict[str, V | Loaded[V] | CacheError]:
        answers = load_many([plain[name] for name in wanted], timeout_s)
        return {names[key]: value for key, value in answers.items() if key in names}

    return load


def _taggable(codec: Codec[Any]) -> Codec[Any]:
    """Return a codec whose functions receive the ids of tagged keys without the generations."""

    def canonical(rest: str) -> str | None:
        id_, mark, generations = rest.partition(MARK)
        spelled = codec.canonical(id_)
        return None if spelled is None else f"{spelled}{mark}{generations}"

    return replace(
        codec,
        decode=lambda payload, rest: codec.decode(payload, rest.partition(MARK)[0]),
        canonical=canonical,
    )
