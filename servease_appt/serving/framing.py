"""Find where a request ends in the bytes that a client has sent so far.

This is not a second HTTP parser: it only decides when enough has arrived to hand the request to gunicorn's
parser, which alone judges whether the request is valid. What this file cannot make sense of is handed over at
once, so that the client gets gunicorn's 400 rather than a timeout.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

MAX_HEAD_BYTES: Final = 128 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024
_MAX_CHUNK_LINE_BYTES: Final = 8 * 1024
_MAX_CHUNKED_BYTES: Final = 8 * MAX_BODY_BYTES
_FRAMING: Final = re.compile(
    rb"^(content-length|transfer-encoding|expect)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE
)
_CHUNK_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,16}(?=[ \t]*(?:;|$))")


class Progress(Enum):
    """How far a request has come."""

    INCOMPLETE = auto()
    COMPLETE = auto()
    """All of it is here, or it is malformed: gunicorn's parser can decide."""
    HEAD_TOO_LARGE = auto()
    """More than `MAX_HEAD_BYTES` without an end of the headers."""


class RequestFrame:
    """The bytes of one request, and whether they are all there. Used by one thread at a time.

    Attributes:
        body_is_cut: the body is larger than `MAX_BODY_BYTES`, and the rest of it was not read. The connection
            cannot be used for another request.
        wants_continue: the client waits for `100 Continue` before it sends the body.
    """

    def __init__(self, received: bytes = b"") -> None:
        self._bytes = bytearray(received)
        self._searched = 0
        self._head_end = 0
        self._is_chunked = False
        self._chunk_at = 0
        self._payload_bytes = 0
        self._end: int | None = None
        self.body_is_cut = False
        self.wants_continue = False

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def path(self) -> bytes:
        """The path of the request line, without the query; empty where there is none."""
        words = bytes(self._bytes[: self._bytes.find(b"\r\n")]).split(b" ")
        return words[1].partition(b"?")[0] if len(words) > 1 else b""

    def feed(self, data: bytes) -> Progress:
        """Add what the client has sent. Call it with `b""` to look at what is already there."""
        self._bytes += data
        if not self._head_end:
            progress = self._find_head()
            if progress is not Progress.COMPLETE or self._end is not None:
                return progress
            self._read_framing()
        if self._is_chunked and self._end is None:
            self._follow_chunks()
        return Progress.COMPLETE if self._is_all_there() else Progress.INCOMPLETE

    def take(self) -> tuple[bytes, bytes]:
        """Return the request's bytes, and what the client has sent behind them."""
        end = len(self._bytes) if self._end is None else self._end
        return bytes(self._bytes[:end]), bytes(self._bytes[end:])

    def _is_all_there(self) -> bool:
        return self._end is not None and len(self._bytes) >= self._end

    def _find_head(self) -> Progress:
        end = self._bytes.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end >= 0:
            self._head_end = end + 4
            return Progress.COMPLETE
        if self._bytes.find(b"\n\n", max(0, self._searched - 1)) >= 0:
            self._end = len(self._bytes)  # bare line feeds: not HTTP, for gunicorn to refuse
            return Progress.COMPLETE
        self._searched = len(self._bytes)
        return Progress.HEAD_TOO_LARGE if len(self._bytes) > MAX_HEAD_BYTES else Progress.INCOMPLETE

    def _read_framing(self) -> None:
        lengths: list[bytes] = []
        codings: list[bytes] = []
        for name, value in _FRAMING.findall(bytes(self._bytes[: self._head_end])):
            match name.lower():
                case b"content-length":
                    lengths.append(value.strip())
                case b"transfer-encoding":
                    codings.append(value.strip().lower())
                case _:
                    self.wants_continue = value.strip().lower() == b"100-continue"
        if not lengths and codings == [b"chunked"]:
            self._is_chunked, self._chunk_at = True, self._head_end
        elif not codings and len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= 18:
            length = int(lengths[0])
            self.body_is_cut = length > MAX_BODY_BYTES
            self._end = self._head_end + (0 if self.body_is_cut else length)
        else:
            self._end = self._head_end  # no body, or a framing that gunicorn refuses

    def _follow_chunks(self) -> None:
        """Step from chunk to chunk as far as they have arrived."""
        while self._end is None:
            at = self._chunk_at
            line_end = self._bytes.find(b"\r\n", at, at + _MAX_CHUNK_LINE_BYTES)
            if line_end < 0:
                if len(self._bytes) - at >= _MAX_CHUNK_LINE_BYTES or b"\n" in self._bytes[at:]:
                    self._end = len(self._bytes)
                return
            size = _CHUNK_SIZE.match(self._bytes[at:line_end])
            if size is None:
                self._end = len(self._bytes)  # malformed: gunicorn refuses it
                return
            data_at, length = line_end + 2, int(size.group(), 16)
            if length == 0:
                self._find_trailer_end(data_at)
                return
            arrived = len(self._bytes) - data_at
            if self._payload_bytes + min(length, arrived) > MAX_BODY_BYTES or data_at > _MAX_CHUNKED_BYTES:
                self.body_is_cut, self._end = True, len(self._bytes)
                return
            if arrived < length + 2:
                return
            self._payload_bytes += length
            self._chunk_at = data_at + length + 2

    def _find_trailer_end(self, at: int) -> None:
        if self._bytes[at : at + 2] == b"\r\n":
            self._end = at + 2
            return
        end = self._bytes.find(b"\r\n\r\n", at)
        if end >= 0:
            self._end = end + 4
        elif len(self._bytes) - at > _MAX_CHUNK_LINE_BYTES or b"\n" in self._bytes[at:].replace(b"\r\n", b""):
            self._end = len(self._bytes)
