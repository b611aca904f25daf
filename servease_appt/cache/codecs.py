"""What may be cached: codecs turn values into bytes and back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Generic, TypeVar, cast

from servease_appt.cache.frozen import FrozenDict, freeze

V = TypeVar("V")

MAX_PAYLOAD_BYTES = 1_048_576
_INITIAL = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Codec(Generic[V]):
    """How one type of value is turned into bytes and back; held under keys `name_rest`.

    Values are shared between threads: make them immutable.

    Attributes:
        name: the part of a key before its first underscore.
        encode: turns a value into bytes; what it raises makes the load a failed one.
        decode: `decode(payload, rest)` turns bytes into a value. Raises for bytes that are not such a value of
            that id, whatever it likes; the cache takes them for a miss.
        canonical: how keys spell an id, which messages from outside may spell differently; None for what is no id.
        max_bytes: longer payloads are taken for a miss without being decoded.
        reread: whether the worker that loads a value hands out what its bytes decode to, as all others do, and not
            the loader's own object, which may be another type, or may be changed.

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


def json_codec(name: str) -> Codec[Mapping[str, Any]]:
    """Return a codec whose values are JSON objects, handed out as dicts that can't be changed.

    Every reader of every worker gets the same types, equal to the plain dicts and lists that they come from, and
    fit for `jsonify`. `dict(value)` gives a dict that can be changed.

    Args:
        name: the part of a key before its first underscore.

    Example:
        >>> codec = json_codec("customer")
        >>> codec.decode(codec.encode({"name": "Ada"}), "17")
        {'name': 'Ada'}
    """
    return Codec(
        name, encode=lambda value: json.dumps(dict(value)).encode(), decode=_json_object, reread=True
    )


def _json_object(payload: bytes, _rest: str) -> Mapping[str, Any]:
    value = json.loads(payload)
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    return cast("FrozenDict", freeze(value))


class Codecs(Generic[V]):
    """The codecs of one cache, found by the part of a key before its first underscore."""

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

    def name_of(self, key: str) -> str:
        """The codec's name of a key; `-` for a key that has no codec."""
        name = key.partition("_")[0]
        return name if name in self._by_name else "-"

    def tally(self, keys: Iterable[str]) -> Iterable[tuple[str, int]]:
        """How many of the keys belong to each codec; told by the first letter alone where that is enough."""
        if self._by_initial is None:
            return Counter(map(self.name_of, keys)).items()
        counts = Counter(map(_INITIAL, keys))
        return [(self._by_initial[initial], n) for initial, n in counts.items()]

    def of(self, key: str) -> Codec[V]:
        """The codec of a key. Raises ValueError where there is none."""
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
        """The key as it is spelled here; None for a key that has no codec, or of no id of its codec."""
        name, _, rest = key.partition("_")
        codec = self._by_name.get(name)
        try:
            spelled = None if codec is None else codec.canonical(rest)
        except Exception:  # noqa: BLE001 - a message that anybody can publish must not be able to cut the channel
            spelled = None
        return None if spelled is None else f"{name}_{spelled}"

    def is_encoded(self, key: str, value: V, payload: bytes) -> bool:
        """Say whether the bytes are this value.

        The bytes are compared first: a value need not be equal to what is decoded from its own bytes (NaN, arrays,
        tuples in JSON). Another writer may spell an equal value with other bytes.
        """
        try:
            return self.of(key).encode(value) == payload or bool(self.decode(key, payload) == value)
        except Exception:  # noqa: BLE001 - what can't be compared is not the same
            return False

    def decode(self, key: str, payload: bytes) -> V | None:
        """The value, or None where the bytes are none."""
        name, _, rest = key.partition("_")
        try:
            codec = self._by_name[name]
            return codec.decode(payload, rest) if len(payload) <= codec.max_bytes else None
        except Exception:  # noqa: BLE001 - bytes that anybody can write must not be able to fail a page
            return None
