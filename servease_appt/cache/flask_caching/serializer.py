"""Serialize Python values to JSON so that deserialized values are equal and of the same type, at every depth.

JSON has strings, numbers, booleans, null, lists and objects with string keys. Every other supported type is an
object with a single key, its tag: `{"$date": "2026-05-04"}`. A dict that looks like a tagged object, or whose keys
are not all strings, is written as `{"$dict": [[key, value], ...]}`. The application's JSON provider is not used.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import math
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

MAX_DEPTH = 100
"""Maximum nesting of values: far below the limit of Python's JSON parser at any call depth."""
LARGE_INT_BITS = 1024
"""Larger integers are written in hexadecimal, since Python limits the decimal digits of conversions."""

Pack = Callable[[Any], Any]


class Refused(TypeError):
    """Raised for a value that could not be restored unchanged."""


class TaggedType(NamedTuple):
    """A type that JSON lacks: written as `{tag: pack(value, pack_inner)}`, read by `unpack(content)`.

    `pack_inner` packs a value inside this one. Several types may share a tag.
    """

    type: type
    tag: str
    pack: Callable[[Any, Pack], Any]
    unpack: Callable[[Any], Any]


class ExactSerializer:
    """Serializes values exactly, or raises `Refused`. Thread-safe: immutable after construction.

    A type is matched by identity: an instance of a subclass is refused, since it would be restored as its base.

    Args:
        more_types: types to support in addition to those of this module.
    """

    def __init__(self, more_types: Iterable[TaggedType] = ()) -> None:
        tagged_types = (*_TAGGED_TYPES, *more_types)
        self._by_type = {tagged.type: tagged for tagged in tagged_types}
        self._unpack = {tagged.tag: tagged.unpack for tagged in tagged_types} | {"$dict": dict}
        self._decode_tagged = json.JSONDecoder(object_hook=self._from_object).decode

    def dumps(self, value: Any) -> bytes:
        """Return the bytes of a value. Equal values with equal types and order have equal bytes.

        Raises:
            Refused: a TypeError that names the type and a remedy.
        """
        # Not escaped: escapes would join two lone surrogates into one character.
        return _encode(self._pack(value, 0)).encode("utf-8", "surrogatepass")

    def loads(self, payload: bytes) -> Any:
        """Return the value of bytes from `dumps`. Raises ValueError, TypeError or KeyError for other bytes."""
        text = payload.decode("utf-8", "surrogatepass")
        # JSON escapes a quote inside a string, so this text occurs only in tags.
        return self._decode_tagged(text) if '{"$' in text else json.loads(text)

    def _pack(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        if depth > MAX_DEPTH:
            raise Refused(
                f"it is nested more than {MAX_DEPTH} deep, or contains itself; store a flatter value"
            )
        if kind is dict:
            return self._pack_dict(value, depth + 1)
        if kind is list:
            return [self._pack(item, depth + 1) for item in value]
        if kind is int and value.bit_length() <= LARGE_INT_BITS:
            return value
        if kind is float and math.isfinite(value):
            return value
        tagged = self._by_type.get(kind)
        if tagged is None:
            raise Refused(
                f"a value of type {_type_name(kind)} would not come back as it was; {_remedy(value)}, or set"
                " CACHE_SERIALIZER to a serializer that keeps it"
            )
        return {tagged.tag: tagged.pack(value, lambda inner: self._pack(inner, depth + 1))}

    def _pack_dict(self, value: dict[Any, Any], depth: int) -> Any:
        if set(map(type, value)) <= {str} and not (len(value) == 1 and next(iter(value)).startswith("$")):
            return {key: self._pack(item, depth) for key, item in value.items()}
        return {"$dict": [[self._pack(key, depth), self._pack(item, depth)] for key, item in value.items()]}

    def _from_object(self, found: dict[str, Any]) -> Any:
        if len(found) == 1:
            (tag, content), *_ = found.items()
            if tag.startswith("$"):
                return self._unpack[tag](content)
        return found


def _encode(packed: Any) -> str:
    return json.dumps(packed, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _remedy(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return "store its .value"
    if dataclasses.is_dataclass(value):
        return "store dataclasses.asdict(value)"
    if hasattr(value, "model_dump"):
        return "store value.model_dump()"
    for plain in (tuple, dict, list, set, frozenset, str, int, float, bytes, datetime, date, time):
        if isinstance(value, plain):
            return (
                f"store {plain.__name__}(value)" if plain not in (datetime, date, time) else "store its parts"
            )
    if hasattr(value, "__next__"):
        return "store list(value)"
    return "store its data as plain types"


def _pack_float(value: float, _: Pack) -> str:
    if math.isnan(value):
        raise Refused("nan is not equal to itself, so it can't come back equal; store None")
    return repr(value)


def _pack_decimal(value: Decimal, _: Pack) -> str:
    if value.is_nan():
        raise Refused("a Decimal that is no number is not equal to itself; store None")
    return str(value)


def _pack_set(value: set[Any] | frozenset[Any], pack: Pack) -> list[Any]:
    # Sorted, since the order of a set differs between processes, and equal values must have equal bytes.
    return sorted(map(pack, value), key=_encode)


def _pack_timedelta(value: timedelta, _: Pack) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _pack_zoned(value: datetime | time, pack: Pack) -> list[Any]:
    return [value.replace(tzinfo=None).isoformat(), value.fold, _pack_zone(value.tzinfo, pack)]


def _pack_zone(zone: Any, pack: Pack) -> Any:
    if zone is None:
        return None
    if type(zone) is timezone:
        offset, name = zone.utcoffset(None), zone.tzname(None)
        return [_pack_timedelta(offset, pack), name if name != timezone(offset).tzname(None) else None]
    # Two zones are equal only if they are the same object, and ZoneInfo has one object for each key.
    if type(zone) is ZoneInfo and _is_the_zone_of_its_key(zone):
        return zone.key
    raise Refused(
        f"a time zone of type {_type_name(type(zone))} would not come back as it was; use zoneinfo.ZoneInfo(key)"
        " or datetime.timezone"
    )


def _is_the_zone_of_its_key(zone: ZoneInfo) -> bool:
    key: str | None = zone.key  # None for a zone read from a file
    return key is not None and ZoneInfo(key) is zone


def _unpack_zone(content: Any) -> timezone | ZoneInfo | None:
    match content:
        case None:
            return None
        case str(key):
            return ZoneInfo(key)
        case [offset, None]:
            return timezone(timedelta(*offset))
        case [offset, name]:
            return timezone(timedelta(*offset), name)
    raise ValueError("not a time zone")


def _unpack_datetime(content: Any) -> datetime:
    text, fold, zone = content
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=_unpack_zone(zone))


def _unpack_time(content: Any) -> time:
    text, fold, zone = content
    return time.fromisoformat(text).replace(fold=fold, tzinfo=_unpack_zone(zone))


def _as_text(value: Any, _: Pack) -> str:
    return str(value)


_TAGGED_TYPES = (
    TaggedType(int, "$int", lambda value, _: hex(value), lambda text: int(text, 16)),
    TaggedType(float, "$float", _pack_float, float),
    TaggedType(tuple, "$tuple", lambda value, pack: [pack(item) for item in value], tuple),
    TaggedType(set, "$set", _pack_set, set),
    TaggedType(frozenset, "$frozenset", _pack_set, frozenset),
    TaggedType(bytes, "$bytes", lambda value, _: base64.b64encode(value).decode(), base64.b64decode),
    TaggedType(datetime, "$datetime", _pack_zoned, _unpack_datetime),
    TaggedType(date, "$date", lambda value, _: value.isoformat(), date.fromisoformat),
    TaggedType(time, "$time", _pack_zoned, _unpack_time),
    TaggedType(timedelta, "$timedelta", _pack_timedelta, lambda parts: timedelta(*parts)),
    TaggedType(Decimal, "$decimal", _pack_decimal, Decimal),
    TaggedType(UUID, "$uuid", _as_text, UUID),
)
