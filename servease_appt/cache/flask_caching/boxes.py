"""Cached values as the tiers hold them: as bytes, so that every reader receives a new object."""

from __future__ import annotations

from typing import Any, Protocol

from servease_appt.cache.codecs import Codec
from servease_appt.cache.flask_caching.serializer import Refused


class Serializer(Protocol):
    """Converts values to bytes and back: the backend's own serializer, or that of CACHE_SERIALIZER."""

    def dumps(self, value: Any, /) -> bytes:
        """Return the bytes of a value."""

    def loads(self, payload: bytes, /) -> Any:
        """Return the value that the bytes encode."""


class Boxed:
    """The bytes of a cached value of any type, None included. Equal if the bytes are equal.

    A box read from L2 also has the value decoded as a check, which the first reader receives.
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
    """Converts values to boxes and back. Thread-safe.

    Args:
        serializer: may be replaced before the first value is boxed.
        max_bytes: maximum length of a payload, in bytes.
    """

    def __init__(self, serializer: Serializer, max_bytes: int) -> None:
        self.serializer = serializer
        self.max_bytes = max_bytes

    def codec(self, name: str) -> Codec[Boxed]:
        """Return the codec with which the tiers store boxes."""
        return Codec(name, encode=lambda box: box.payload, decode=self._from_l2, max_bytes=self.max_bytes)

    def box(self, key: str, value: Any) -> Boxed:
        """Return the box of a value. Raises TypeError, naming the key, if the serializer refuses the value."""
        try:
            payload = self.serializer.dumps(value)
        except Refused as refusal:
            raise TypeError(f"cache key {key!r}: {refusal}") from None
        if not payload:
            raise TypeError(
                f"cache key {key!r}: {type(self.serializer).__name__} returned no bytes for a value of type"
                f" {type(value).__qualname__}; store what it supports, or set another CACHE_SERIALIZER"
            )
        return Boxed(payload)

    def open(self, box: Boxed | None) -> Any:
        """Return the value in a box; None if there is no box."""
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
