"""The answers to many GETs: every form, however they are split, and never those to other commands."""

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from redis import Redis
from redis.connection import Connection
from redis.crc import key_slot
from redis.exceptions import BusyLoadingError, InvalidResponse, MovedError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from servease_appt.cache import connect
from servease_appt.cache.l2 import cluster_keys, values
from servease_appt.cache.l2.values import pack_gets, read_values

SPLITS = [1, 2, 3, 7, 65536]


@pytest.fixture
def link() -> Iterator[tuple[Any, socket.socket]]:
    """redis-py's connection, and the server's side of its socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        make: Any = Connection
        connection = make(port=server.getsockname()[1], protocol=2, driver_info=None, socket_timeout=2)
        connection.connect()
        peer, _ = server.accept()
        with peer:
            yield connection, peer
        connection.disconnect()


def test_a_real_server_s_answers(redis_url: str) -> None:
    """Values, an empty one, a long one, none, and an error, in the order of the commands."""
    long = bytes(range(256)) * 4096
    with Redis.from_url(redis_url) as admin, connect(redis_url, timeout_s=2.0) as client:
        admin.mset({"gets:a": b"x\r\n$1\r\ny", "gets:empty": b"", "gets:long": long, "gets:z": b"last"})
        admin.rpush("gets:list", "item")
        names = [b"gets:a", b"gets:empty", b"gets:none", b"gets:long", b"gets:list", b"gets:z"]
        with closing(client):
            connection: Any = client.connection_pool.get_connection()
            connection.send_packed_command([pack_gets(names)])
            answers = read_values(connection, len(names))
            connection.send_packed_command([pack_gets([b"gets:z"])])
            assert read_values(connection, 1) == [b"last"]
            client.connection_pool.release(connection)
        admin.delete(*names)
    error = answers.pop(4)
    assert answers == [b"x\r\n$1\r\ny", b"", None, long, b"last"]
    assert isinstance(error, ResponseError)
    assert str(error).startswith("WRONGTYPE")


@pytest.mark.parametrize("size", SPLITS)
def test_answers_may_be_split_anywhere(
    link: tuple[Any, socket.socket], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a length, of a value, of its end; both forms of no value; a redirection is an answer."""
    connection, peer = link
    sent = b"$3\r\none\r\n$-1\r\n_\r\n-MOVED 5 127.0.0.1:7001\r\n$0\r\n\r\n$12\r\n0123\r\n456789\r\n"
    monkeypatch.setattr(values, "CHUNK", size)
    peer.sendall(sent)
    one, none, null, moved, empty, split = read_values(connection, 6)
    assert (one, none, null, empty, split) == (b"one", None, None, b"", b"0123\r\n456789")
    assert isinstance(moved, MovedError)
    assert moved.port == 7001


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", InvalidResponse),
        (b"$1\r\na\r\n$1\r\nb\r\n$1\r", InvalidResponse),
        (b"$1\r\na\r\n*0\r\n", InvalidResponse),
        (b"$1\r\na\r\n>1\r\n$1\r\nb\r\n", InvalidResponse),
        (b"$1\r\na\r\n$9\r\nb", RedisConnectionError),
        (b"$1\r\na\r\n", RedisConnectionError),
        (b"", RedisConnectionError),
        (b"$1\r\na\r\n-LOADING the data set\r\n", BusyLoadingError),
    ],
    ids=["one more", "a part more", "an array", "a push", "half a value", "one less", "none", "loading"],
)
def test_a_connection_out_of_step_has_no_answers(
    link: tuple[Any, socket.socket], sent: bytes, error: type[RedisError]
) -> None:
    """Two answers are expected: what is not exactly that is no answer at all."""
    connection, peer = link
    peer.sendall(sent)
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(error):
        read_values(connection, 2)


def test_remembered_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time, later, and after the memory was full: braces count, and no name has another one's slot."""
    monkeypatch.setattr(cluster_keys, "REMEMBERED", 8)
    names = [b"a", b"p:{a}b", b"p:a{b", b"{}a", *(b"p:%d" % n for n in range(20))]
    for wanted in (names, names[::-1], names[:3], names[3:], [b"new", *names]):
        assert cluster_keys.slots_of(wanted) == [key_slot(name) for name in wanted]
    assert len(cluster_keys._remembered) <= 8 + len(names) + 1
