"""Cached values as the tiers hold them: as bytes, so that every reader gets an object of its own."""

from __future__ import annotations

from typing import Any, Protocol

from servease_appt.cache.codecs import Codec
from servease_appt.cache.flask_caching.serializer import Refused


class Serializer(Protocol):
    """What turns values into bytes: the backend's own, or the one that CACHE_SERIALIZER names."""

    def dumps(self, value: Any, /) -> bytes:
        """Return the bytes of a value."""

    def loads(self, payload: bytes, /) -> Any:
        """Return the value of bytes."""


class Boxed:
    """The bytes of a cached value of any type, None included. Two are equal when their bytes are.

    One read from L2 also has the value that its bytes were checked by, for the first who opens it.
    """

    __slots__ = ("checked", "payload")

    def __init__(self, payload: bytes, *checked: Any) -> None:
        self.payload = payload
        self.checked = list(checked)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Boxed) and self.payload == other.payload

    def __hash__(self) -> int:
        return hash(self.payload)


class Boxes:
    """Put values into boxes and take them out again. Thread-safe.

    Args:
        serializer: may be replaced before the first value is boxed.
        max_bytes: the longest payload that may be stored.
    """

    def __init__(self, serializer: Serializer, max_bytes: int) -> None:
        self.serializer = serializer
        self.max_bytes = max_bytes

    def codec(self, name: str) -> Codec[Boxed]:
        """Return the codec by which the tiers store boxes."""
        return Codec(name, encode=lambda box: box.payload, decode=self._from_l2, max_bytes=self.max_bytes)

    def box(self, key: str, value: Any) -> Boxed:
        """Return the box of a value. Raises TypeError, naming the key, for one that the serializer can't keep."""
        try:
            payload = self.serializer.dumps(value)
        except Refused as refusal:
            raise TypeError(f"cache key {key!r}: {refusal}") from None
        if not payload:
            raise TypeError(
                f"cache key {key!r}: {type(self.serializer).__name__} gave no bytes for a value of type"
                f" {type(value).__qualname__}; store what it supports, or set another CACHE_SERIALIZER"
            )
        return Boxed(payload)

    def open(self, box: Boxed | None) -> Any:
        """Return the value in a box; None where there is no box."""
        if box is None:
            return None
        if box.checked:
            try:
                return box.checked.pop()  # one step, so that no two threads get the same object
            except IndexError:
                pass
        return self.serializer.loads(box.payload)

    def _from_l2(self, payload: bytes, _rest: str) -> Boxed:
        return Boxed(payload, self.serializer.loads(payload))
