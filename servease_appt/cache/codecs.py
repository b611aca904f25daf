"""Codecs: they encode values to bytes and decode them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Generic, TypeVar, cast

from servease_appt.cache.frozen import FrozenDict, freeze
from servease_appt.cache.lifetimes import Lifetimes

V = TypeVar("V")

MAX_PAYLOAD_BYTES = 1_048_576
_INITIAL = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Codec(Generic[V]):
    """The encoding of one type of value, which is stored under keys `name_rest`. Immutable.

    Cached values are shared between threads: make them immutable.

    Attributes:
        name: the part of a key before its first underscore.
        encode: returns the bytes of a value. If it raises, the load counts as failed.
        decode: `decode(payload, rest)` returns the value of bytes. It may raise any exception for bytes that are
            no value of this id; the cache then treats them as a miss.
        canonical: returns an id as keys spell it, since requests of other clients may spell it differently; None
            if the text is no id.
        max_bytes: longer payloads count as a miss and are not decoded.
        reread: True if the worker that loads a value returns what its bytes decode to, as all other workers do.
            Else it returns the loader's own object, which may have another type or be mutable.
        lifetimes: lifetimes that differ from the cache's policy; None: none differ.

    Example:
        >>> text = Codec("note", encode=str.encode, decode=lambda payload, rest: payload.decode())
        >>> text.decode(text.encode("Bring the keys."), "17")
        'Bring the keys.'
    """

    name: str
    encode: Callable[[V], bytes]
    decode: Callable[[bytes, str], V]
    canonical: Callable[[str], str | None] = str
    max_bytes: int = MAX_PAYLOAD_BYTES
    reread: bool = False
    lifetimes: Lifetimes | None = None


def json_codec(name: str, *, lifetimes: Lifetimes | None = None) -> Codec[Mapping[str, Any]]:
    """Return a codec for JSON objects, which readers receive as immutable dicts.

    Every reader of every worker receives the same types. They are equal to plain dicts and lists, and `jsonify`
    accepts them. `dict(value)` returns a mutable dict.

    Args:
        name: the part of a key before its first underscore.
        lifetimes: lifetimes that differ from the cache's policy; None: none differ.

    Example:
        >>> codec = json_codec("customer")
        >>> codec.decode(codec.encode({"name": "Ada"}), "17")
        {'name': 'Ada'}
    """
    return Codec(
        name,
        encode=lambda value: json.dumps(dict(value)).encode(),
        decode=_json_object,
        reread=True,
        lifetimes=lifetimes,
    )


def _json_object(payload: bytes, _rest: str) -> Mapping[str, Any]:
    value = json.loads(payload)
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    return cast("FrozenDict", freeze(value))


class Codecs(Generic[V]):
    """The codecs of one cache, by the part of a key before its first underscore."""

    def __init__(self, codecs: tuple[Codec[V], ...]) -> None:
        self._by_name = {codec.name: codec for codec in codecs}
        if len(self._by_name) != len(codecs) or any("_" in name or not name for name in self._by_name):
            raise ValueError("codecs need distinct names without an underscore")
        by_initial = {name[0]: name for name in self._by_name}
        self._by_initial = by_initial if len(by_initial) == len(codecs) else None

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order given."""
        return tuple(self._by_name)

    @property
    def lifetimes(self) -> dict[str, Lifetimes | None]:
        """The lifetimes of each codec that differ from the cache's policy, by name."""
        return {name: codec.lifetimes for name, codec in self._by_name.items()}

    def name_of(self, key: str) -> str:
        """Return the name of a key's codec; `-` for a key that has none."""
        name = key.partition("_")[0]
        return name if name in self._by_name else "-"

    def tally(self, keys: Sequence[str]) -> Iterable[tuple[str, int]]:
        """Return the number of keys of each codec, by their first letters alone if these are distinct."""
        if len(keys) < 2:
            return [(self.name_of(key), 1) for key in keys]
        if self._by_initial is None:
            return Counter(map(self.name_of, keys)).items()
        counts = Counter(map(_INITIAL, keys))
        return [(self._by_initial[initial], n) for initial, n in counts.items()]

    def of(self, key: str) -> Codec[V]:
        """Return the codec of a key. Raises ValueError if there is none."""
        codec = self._by_name.get(key.partition("_")[0])
        if codec is None:
            raise ValueError(
                f"{key!r} is no key: it needs one of {', '.join(self._by_name)}, then _ and an id"
            )
        return codec

    def check(self, keys: Iterable[str]) -> None:
        """Raise ValueError, naming the first key that belongs to no codec."""
        for key in keys:
            if key.partition("_")[0] not in self._by_name:
                self.of(key)

    def canonical(self, key: str) -> str | None:
        """Return the key in canonical spelling; None if it has no codec or its id is invalid."""
        name, _, rest = key.partition("_")
        codec = self._by_name.get(name)
        try:
            spelled = None if codec is None else codec.canonical(rest)
        except Exception:  # noqa: BLE001 - any client can publish a message, and none may break the channel
            spelled = None
        return None if spelled is None else f"{name}_{spelled}"

    def is_encoded(self, key: str, value: V, payload: bytes) -> bool:
        """Return True if the bytes encode this value.

        The bytes are compared first: a value may differ from what its own bytes decode to (NaN, arrays, tuples in
        JSON). Then the values are compared: another writer may encode an equal value to other bytes.
        """
        try:
            return self.of(key).encode(value) == payload or bool(self.decode(key, payload) == value)
        except Exception:  # noqa: BLE001 - values that can't be compared count as different
            return False

    def decode(self, key: str, payload: bytes) -> V | None:
        """Return the value; None if the bytes can't be decoded."""
        name, _, rest = key.partition("_")
        try:
            codec = self._by_name[name]
            return codec.decode(payload, rest) if len(payload) <= codec.max_bytes else None
        except Exception:  # noqa: BLE001 - any client can write bytes, and none may make a request fail
            return None
