"""Many GETs on one connection, for less than redis-py's parser costs: a page of a cluster is one GET for each key.

A cluster refuses an MGET of several slots, so a page costs one command and one answer for each key. Answers to GET
have four forms, which are read here in one pass over the received bytes. This needs two private names of redis-py,
`_sock` and `_parser`, as `channel.py` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

CHUNK: Final = 65536
MOST_AT_ONCE: Final = 1048576
"""The longest buffer for one read, whatever length an answer says that it has."""
_BULK, _NULL, _ERROR = b"$_-"


def pack_gets(names: Iterable[bytes]) -> bytes:
    """Return a GET of each name in the protocol of Redis."""
    return b"".join([b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(name), name) for name in names])


def read_values(connection: Any, count: int) -> list[Any]:
    """Return the answers to the last `count` commands, all GETs: a value, None, or an exception that is an answer.

    Args:
        connection: redis-py's; it has no unread bytes before these answers, as one that the pool has just given.
        count: the number of answers, at least one.

    Raises:
        redis-py's errors or OSError: answers are missing; the connection can't be used any more.
    """
    link, parser = connection._sock, connection._parser  # noqa: SLF001 - see the module's docstring
    values: list[Any] = []
    rest = b""
    while len(values) < count:
        chunk = link.recv(min(max(CHUNK, _missing(rest)), MOST_AT_ONCE))
        if not chunk:
            raise RedisConnectionError("Connection closed by server.")
        rest = _take_values(rest + chunk, values, parser.parse_error)
    if rest or len(values) > count:
        raise InvalidResponse("more answers than commands")
    return values


def _take_values(received: bytes, values: list[Any], parse_error: Callable[[str], Exception]) -> bytes:
    """Append the complete answers, and return what is left: the beginning of the next one."""
    at, size = 0, len(received)
    while at < size:
        end = received.find(b"\r\n", at)
        if end < 0:
            break
        kind, after = received[at], end + 2
        if kind == _BULK:
            length = int(received[at + 1 : end])
            if length >= 0:
                stop = after + length
                if size < stop + 2:
                    break
                values.append(received[after:stop])
                after = stop + 2
            else:
                values.append(None)
        elif kind == _NULL:
            values.append(None)
        elif kind == _ERROR:
            error = parse_error(received[at + 1 : end].decode(errors="replace"))
            if isinstance(error, RedisConnectionError):  # such as that of a server that loads its data
                raise error
            values.append(error)
        else:
            raise InvalidResponse(f"this is no answer to GET: {received[at:end]!r}")
        at = after
    return received[at:]


def _missing(rest: bytes) -> int:
    """Return how many bytes of a value that has begun to arrive are missing; 0 if that is not known yet."""
    if rest[:1] != b"$" or b"\r\n" not in rest:
        return 0
    return int(rest[1 : rest.index(b"\r\n")]) + rest.index(b"\r\n") + 4 - len(rest)
