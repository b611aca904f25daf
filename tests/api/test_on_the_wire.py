"""What a test client can't show: bytes on a socket, through the server that serves us."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from servease_appt.api.parsing import LARGEST_BODY
from tests.support.dataset import BASE, Dataset, token
from tests.support.gunicorn import Gunicorn


@pytest.fixture(scope="module")
def served(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """The service under gunicorn with its own configuration, one worker."""
    with Gunicorn(environment, tmp_path_factory.mktemp("served"), workers=1) as gunicorn:
        yield gunicorn


def _raw(served: Gunicorn, *lines: str, body: bytes = b"") -> bytes:
    """Send a request as bytes; return all that comes back before the connection is closed."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(("size", "status"), [(LARGEST_BODY + 1, 413), (1000, 400)])
def test_a_chunked_body_is_counted(served: Gunicorn, dataset: Dataset, size: int, status: int) -> None:
    """A body of chunks without an announced length is a 413 in JSON once it is over 1 MB."""
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part)
        for part in (b"x" * min(50_000, size - sent) for sent in range(0, size, 50_000))
    )
    answer = _raw(
        served,
        f"PATCH {BASE}/appointments/{dataset.appointment()}/ HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token(user_role='admin')}",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        body=chunks + b"0\r\n\r\n",
    )
    assert _status(answer) == status
    assert b"Content-Type: application/json" in answer
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) == {"detail"}


def test_an_unchanged_detail_has_no_body(served: Gunicorn, dataset: Dataset) -> None:
    """The connection goes on behind a 304, which ends with its headers."""
    path = f"{BASE}/appointments/{dataset.appointment()}/"
    bearer = {"Authorization": f"Bearer {token(user_role='admin')}"}
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)) as connection:
        connection.request("GET", path, headers=bearer)
        first = connection.getresponse()
        body = first.read()
        for known, status, expected in ((first.headers["ETag"], 304, b""), ('"x"', 200, body)):
            connection.request("GET", path, headers={**bearer, "If-None-Match": known})
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (status, expected)
            assert answer.headers["ETag"] == first.headers["ETag"]


def test_two_authorization_headers_are_401(served: Gunicorn) -> None:
    """Two good tokens in two headers are as good as none: nobody knows which was meant."""
    good = f"Authorization: Bearer {token(user_role='admin')}"
    answer = _raw(served, f"GET {BASE}/appointments/ HTTP/1.1", "Host: x", good, good)
    assert _status(answer) == 401
    assert b"WWW-Authenticate: Bearer" in answer


@pytest.mark.parametrize("length", [8_192, 16_000])
def test_an_overlong_token_is_401(served: Gunicorn, length: int) -> None:
    """What is too long for a token is refused as one, not by the server for its size."""
    long = f"Authorization: Bearer {'A' * length}"
    answer = _raw(served, f"GET {BASE}/appointments/ HTTP/1.1", "Host: x", long)
    assert _status(answer) == 401
    assert b"WWW-Authenticate: Bearer" in answer


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("POST {} HTTP/1.1", "Host: x", "Content-Length: 2", "Content-Length: 3"), 400),
        (("POST {} HTTP/1.1", "Host: x", "Content-Length: 2", "Transfer-Encoding: chunked"), 400),
        (("POST {} HTTP/1.1", "Host: x", "Content-Length: -1"), 400),
        (("POST {} HTTP/1.1", "Host: x", "Content-Length: 1e3"), 400),
        (("POST {} HTTP/1.1", "Host: x", "Transfer-Encoding: gzip"), 400),
        (("POST {} HTTP/1.1", "Host: x", "X-Secret word: 1"), 400),
        (("POST {} HTTP/9.9", "Host: x"), 400),
        (("<script>", "Host: x"), 400),
        ((f"GET /{'a' * 10_000} HTTP/1.1", "Host: x"), 414),
        (("GET {} HTTP/1.1", "Host: x", *(f"X-{n}: 1" for n in range(200))), 431),
    ],
)
def test_what_is_no_request_is_refused_in_json(served: Gunicorn, lines: tuple[str, ...], status: int) -> None:
    """Ambiguous lengths and malformed bytes get a JSON error that quotes none of them, and the end."""
    answer = _raw(served, *(line.replace("{}", f"{BASE}/health/") for line in lines), body=b"{}")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert _status(answer) == status
    assert b"Content-Type: application/json" in head
    assert b"Connection: close" in head
    assert b"Content-Security-Policy: default-src 'none'" in head
    assert set(json.loads(body)) == {"detail"}
    assert b"script" not in body
    assert b"Secret" not in body


def test_a_body_that_never_comes_harms_nobody_else(served: Gunicorn) -> None:
    """While one client announces a body and sends none, others are answered."""
    good = f"Authorization: Bearer {token(user_role='admin')}"
    head = (
        f"POST {BASE}/cache/invalidate/ HTTP/1.1\r\nHost: x\r\n{good}\r\nContent-Type: application/json\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as waiting:
        waiting.sendall(f"{head}Content-Length: 100\r\n\r\n".encode())
        assert _status(_raw(served, f"GET {BASE}/health/ HTTP/1.1", "Host: x")) == 200


def test_the_server_says_little_of_itself(served: Gunicorn) -> None:
    """No header tells a version."""
    answer = _raw(served, f"GET {BASE}/health/ HTTP/1.1", "Host: x").lower()
    for word in (b"werkzeug", b"python/", b"gunicorn/"):
        assert word not in answer
