"""Answers that are broken, endless, late or dangerous."""

import gzip
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from servease_appt.clients.errors import BadAnswer, Denied, NotFound, Unavailable, UpstreamError
from servease_appt.clients.service import JsonService
from tests.clients.raw_server import HEAD, RawServer, read_request, whole

OK = b'{"id": 1}'
LIMIT_S = 0.3
Serve = Callable[[RawServer], JsonService]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server and gives a client of it that allows `LIMIT_S` for a call."""
    started: list[RawServer] = []
    clients: list[JsonService] = []

    def start(server: RawServer) -> JsonService:
        started.append(server.__enter__())
        clients.append(JsonService("vehicle", server.url, timeout_s=LIMIT_S, pool_size=4))
        return clients[-1]

    yield start
    for client in clients:
        client.close()
    for server in started:
        server.__exit__(None, None, None)


def get(client: JsonService) -> dict[str, object]:
    return client.get("/path/", "a.b.c", client.deadline(None))


def test_plain_compressed_and_chunked_answers(serve: Serve) -> None:
    """An ordinary answer is read, however it is encoded."""
    answers = [
        whole(OK),
        whole(gzip.compress(OK), b"Content-Encoding: gzip"),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\n" + OK[:4] + b"\r\n5\r\n" + OK[4:] + b"\r\n0\r\n\r\n",
        HEAD + b"Connection: close\r\n\r\n" + OK,
    ]
    client = serve(RawServer.answering(*answers))

    assert [get(client) for _ in answers] == [{"id": 1}] * 4


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff" * 100,
        b"HTTP/1.1 abc\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        HEAD + b"Content-Length: 100\r\n\r\n" + OK,
        HEAD + b"Content-Length: 4, 5\r\n\r\n" + OK,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n" + OK,
        HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        HEAD + b"X: y\r\n" * 200 + b"\r\n",
    ],
    ids=[
        "nothing",
        "garbage",
        "no status",
        "ssh",
        "too short",
        "two lengths",
        "bad chunk",
        "huge chunk",
        "long header",
        "many headers",
    ],
)
def test_broken_http(serve: Serve, answer: bytes) -> None:
    """What is no complete HTTP answer is Unavailable, whatever urllib3 thinks of it."""
    client = serve(RawServer.answering(answer))

    with pytest.raises(Unavailable) as caught:
        get(client)
    assert caught.value.status is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[1]",
        b'"text"',
        b"1",
        b'{"a": "\xff"}',
        b'{"a": ' + b"9" * 10_000 + b"}",
        b"[" * 900_000,
        b'{"a":' * 150_000,
        b'{"a": 1} {"b": 2}',
    ],
    ids=["nothing", "html", "null", "list", "text", "number", "utf8", "integer", "nesting", "objects", "two"],
)
def test_bodies_that_are_no_object(serve: Serve, body: bytes) -> None:
    """A body that is not one JSON object is a bad answer, however deep or odd."""
    client = serve(RawServer.answering(whole(body)))

    with pytest.raises(BadAnswer):
        get(client)


def test_duplicate_keys(serve: Serve) -> None:
    """Of a key that comes twice the last counts, as everywhere in Python."""
    assert get(serve(RawServer.answering(whole(b'{"a": 1, "a": 2}')))) == {"a": 2}


@pytest.mark.parametrize("encoding", [b"gzip", b", ".join([b"gzip"] * 50)])
def test_bodies_that_can_not_be_decoded(serve: Serve, encoding: bytes) -> None:
    """A body that is not in the encoding it claims, or in absurdly many, is a bad answer."""
    client = serve(RawServer.answering(whole(b"hello", b"Content-Encoding: " + encoding)))

    with pytest.raises(BadAnswer):
        get(client)


def test_one_megabyte_is_the_limit(serve: Serve) -> None:
    """A body of exactly 1 MB is read, one byte more is a bad answer."""
    padding = 1_000_000 - len(json.dumps({"a": ""}))
    most, more = (json.dumps({"a": "x" * size}).encode() for size in (padding, padding + 1))
    client = serve(RawServer.answering(whole(most), whole(more)))

    assert len(str(get(client)["a"])) == padding
    with pytest.raises(BadAnswer, match="1 MB"):
        get(client)


def _endless(server: RawServer, connection: socket.socket, _number: int) -> None:
    read_request(connection)
    connection.sendall(HEAD + b"\r\n")
    while not server.closing.is_set():
        connection.sendall(b"x" * 65_536)


BOMB = gzip.compress(b"\0" * 200_000_000, 9)


def _fifty_megabytes(_server: RawServer, connection: socket.socket, _number: int) -> None:
    read_request(connection)
    connection.sendall(HEAD + b"Content-Length: 50000000\r\n\r\n")
    for _ in range(50):
        connection.sendall(b"x" * 1_000_000)


@pytest.mark.parametrize(
    "server",
    [
        lambda: RawServer(_fifty_megabytes),
        lambda: RawServer(_endless),
        lambda: RawServer.answering(whole(BOMB, b"Content-Encoding: gzip")),
        lambda: RawServer.answering(whole(gzip.compress(BOMB), b"Content-Encoding: gzip, gzip")),
    ],
    ids=["50 MB", "endless", "gzip bomb", "double gzip bomb"],
)
def test_huge_answers(serve: Serve, server: Callable[[], RawServer]) -> None:
    """However large an answer is or unpacks to, little more than the limit of it is ever held in memory."""
    client = serve(server())
    tracemalloc.start()
    try:
        with pytest.raises(BadAnswer, match="1 MB"):
            get(client)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 6_000_000


def _dripping(answer: bytes, pause_s: float) -> RawServer:
    def script(server: RawServer, connection: socket.socket, _number: int) -> None:
        read_request(connection)
        for byte in answer:
            if server.closing.wait(pause_s):
                return
            connection.sendall(bytes([byte]))

    return RawServer(script)


def _continuing(server: RawServer, connection: socket.socket, _number: int) -> None:
    read_request(connection)
    while not server.closing.wait(0.01):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def _stalling(server: RawServer, connection: socket.socket, _number: int) -> None:
    read_request(connection)
    if not server.closing.wait(LIMIT_S * 0.95):
        connection.sendall(HEAD)
    server.closing.wait(10)


def _silent(server: RawServer, connection: socket.socket, _number: int) -> None:
    read_request(connection)
    server.closing.wait(10)


@pytest.mark.parametrize(
    "server",
    [
        lambda: RawServer(_silent),
        lambda: RawServer(_stalling),
        lambda: _dripping(HEAD * 20, 0.01),
        lambda: _dripping(HEAD + b"Content-Length: 1000\r\n\r\n" + b" " * 1000, 0.002),
        lambda: RawServer(_continuing),
    ],
    ids=["silent", "stalling", "dripping head", "dripping body", "continuing"],
)
def test_the_limit_holds_for_the_whole_answer(serve: Serve, server: Callable[[], RawServer]) -> None:
    """A server that sends a byte now and then is given up on as one that sends none."""
    client = serve(server())
    began = time.monotonic()

    with pytest.raises(Unavailable):
        get(client)
    assert LIMIT_S * 0.9 < time.monotonic() - began < LIMIT_S + 0.2


def test_the_limit_holds_for_a_refusal(serve: Serve) -> None:
    """A 404 whose body drips is still a 404, within the limit."""
    client = serve(_dripping(b"HTTP/1.1 404 No\r\nContent-Length: 9999\r\n\r\n" + b" " * 999, 0.0005))
    began = time.monotonic()

    with pytest.raises(NotFound):
        get(client)
    assert time.monotonic() - began < LIMIT_S + 0.25


def test_no_time_left(serve: Serve) -> None:
    """With the deadline in the past nothing is sent at all."""
    server = RawServer.answering(whole(OK))
    client = serve(server)

    with pytest.raises(Unavailable):
        client.get("/path/", "a.b.c", time.monotonic() - 1)
    assert server.requests == []


def test_refused_connection() -> None:
    """A port nobody listens on is Unavailable, at once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = JsonService("vehicle", f"http://127.0.0.1:{port}", timeout_s=5, pool_size=1)
    began = time.monotonic()

    with pytest.raises(Unavailable):
        get(client)
    assert time.monotonic() - began < 1


def test_redirects_are_not_followed(serve: Serve) -> None:
    """A redirect is Unavailable; the place it points to is never asked, and never sees the token."""
    elsewhere = RawServer.answering(whole(OK))
    serve(elsewhere)
    answer = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n".encode()
    client = serve(RawServer.answering(answer))

    with pytest.raises(Unavailable):
        get(client)
    assert elsewhere.requests == []


def test_the_body_of_a_redirect_is_not_read_to_its_end(serve: Serve) -> None:
    """It may be endless: the status says all."""

    def script(server: RawServer, connection: socket.socket, _number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 1000000000\r\n\r\n")
        connection.sendall(b"x" * 100_000)
        server.closing.wait(10)

    with pytest.raises(Unavailable) as caught:
        get(serve(RawServer(script)))
    assert caught.value.status == 302


def test_left_over_bytes_do_not_become_the_next_answer(serve: Serve) -> None:
    """A server that goes on sending after its answer does not get to answer the next call with that."""
    received, sent = threading.Event(), threading.Event()

    def script(server: RawServer, connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(whole(b'{"id": %d}' % number))
        if number == 1 and received.wait(5):
            connection.sendall(whole(b'{"id": 99}'))
            sent.set()
            server.closing.wait(10)

    client = serve(RawServer(script))

    assert get(client) == {"id": 1}
    received.set()
    assert sent.wait(5)
    assert get(client) == {"id": 2}


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "ü", "\x00", "a,b", "a" * 10 + "\n"])
def test_malformed_tokens_are_never_sent(serve: Serve, token: str) -> None:
    """A token that could not be one is refused as the caller's before anything is sent."""
    server = RawServer.answering(whole(OK))
    client = serve(server)

    with pytest.raises(Denied):
        client.get("/path/", token, client.deadline(None))
    assert server.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        whole(b"x"),
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_the_token_is_in_no_error(serve: Serve, answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Neither an error's text nor its causes nor a log line has the token in it, or the answer's body."""
    client = serve(RawServer.answering(answer))
    caplog.set_level("DEBUG")

    with pytest.raises(UpstreamError) as caught:
        client.get("/path/", "canary-token", client.deadline(None))
    error: BaseException | None = caught.value
    assert "canary" not in repr(client)
    assert "canary" not in caplog.text
    assert "canary" not in repr(error)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
