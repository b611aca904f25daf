"""Commands in the protocol of Redis. redis-py's packer copies the whole command once for each argument."""

from __future__ import annotations

from collections.abc import Sequence

Argument = bytes | str | int


def pack(arguments: Sequence[Argument]) -> bytes:
    """Return a command in the protocol of Redis."""
    texts = [arg if type(arg) is bytes else str(arg).encode() for arg in arguments]
    return b"*%d\r\n" % len(texts) + b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in texts])
