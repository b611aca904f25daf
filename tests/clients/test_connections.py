"""How connections are made, kept and shared."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from servease_appt.clients.errors import Unavailable
from servease_appt.clients.service import JsonService
from tests.clients.raw_server import RawServer, read_request, whole


def counting(server: RawServer, connection: socket.socket, number: int) -> None:
    """Answers every request on a connection with the connection's number."""
    while request := read_request(connection):
        server.requests.append(request)
        connection.sendall(whole(b'{"connection": %d}' % number))


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer(counting) as server:
        yield server


@pytest.fixture
def service(server: RawServer) -> Iterator[JsonService]:
    service = JsonService("vehicle", server.url, timeout_s=2, pool_size=4)
    yield service
    service.close()


def get(service: JsonService, *, with_token: bool = True) -> object:
    return service.get("/path/", "a.b.c" if with_token else None, service.deadline(None)).get("connection")


def test_a_connection_is_kept(service: JsonService) -> None:
    """One call after the other goes over the same connection."""
    assert [get(service) for _ in range(5)] == [1] * 5


def test_as_many_connections_as_the_pool_is_large_are_kept(server: RawServer) -> None:
    """Calls at the same time have connections of their own, and later calls use them again."""
    together = threading.Barrier(8)

    def script(_server: RawServer, connection: socket.socket, number: int) -> None:
        first = True
        while read_request(connection):
            if first:
                together.wait(5)
            first = False
            connection.sendall(whole(b'{"connection": %d}' % number))

    with RawServer(script) as crowded, ThreadPoolExecutor(8) as threads:
        service = JsonService("vehicle", crowded.url, timeout_s=5, pool_size=8)
        numbers = set(threads.map(lambda _: get(service), range(8)))
        again = set(threads.map(lambda _: get(service), range(32)))
        service.close()

    assert numbers == set(range(1, 9))
    assert again <= numbers


def test_a_connection_that_the_server_closed_is_replaced() -> None:
    """A server may close an idle connection: the next call has a new one and does not fail."""
    closed = threading.Event()

    def script(_server: RawServer, connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(whole(b'{"connection": %d}' % number))
        connection.close()
        closed.set()

    with RawServer(script) as impatient:
        service = JsonService("vehicle", impatient.url, timeout_s=2, pool_size=1)
        assert get(service) == 1
        assert closed.wait(5)
        assert get(service) == 2
        service.close()


def test_a_call_that_meets_a_closing_connection_is_made_once_more() -> None:
    """A kept connection that ends without an answer is the server's idle limit: the call goes out again, once."""
    requests: list[int] = []

    def script(_server: RawServer, connection: socket.socket, number: int) -> None:
        read_request(connection)
        requests.append(number)
        if number == 2:
            return
        connection.sendall(whole(b'{"connection": %d}' % number))
        read_request(connection)
        requests.append(number)

    with RawServer(script) as impatient:
        service = JsonService("vehicle", impatient.url, timeout_s=2, pool_size=1)
        assert get(service) == 1
        with pytest.raises(Unavailable):
            get(service)
        service.close()

    assert requests == [1, 1, 2]


def test_a_new_connection_that_is_cut_is_a_failure() -> None:
    """A server that cuts a connection on its first request has failed: the call is not made again."""
    requests: list[int] = []

    def script(_server: RawServer, connection: socket.socket, number: int) -> None:
        read_request(connection)
        requests.append(number)

    with RawServer(script) as failing:
        service = JsonService("vehicle", failing.url, timeout_s=2, pool_size=1)
        with pytest.raises(Unavailable):
            get(service)
        service.close()

    assert requests == [1]


def test_what_is_sent(server: RawServer, service: JsonService) -> None:
    """A request carries the token as a bearer token, asks for plain JSON, and nothing else of the caller's."""
    get(service)

    line, *headers = server.requests[0].decode().strip().split("\r\n")
    assert line == "GET /path/ HTTP/1.1"
    assert {header.partition(":")[0].lower() for header in headers} == {
        "host",
        "accept",
        "accept-encoding",
        "user-agent",
        "authorization",
    }
    assert "Authorization: Bearer a.b.c" in headers


def test_without_a_token(server: RawServer, service: JsonService) -> None:
    """No token, no header."""
    get(service, with_token=False)

    assert b"authorization" not in server.requests[0].lower()


def test_a_base_url_with_a_path(server: RawServer) -> None:
    """A service may be mounted below a path."""
    service = JsonService("vehicle", server.url + "/gateway/", timeout_s=2, pool_size=1)
    get(service)
    service.close()

    assert server.requests[0].startswith(b"GET /gateway/path/ HTTP/1.1\r\n")


def test_no_cookies_are_kept() -> None:
    """A cookie that a service sets is not sent back, to it or with another caller's token."""
    answer = whole(b"{}", b"Set-Cookie: session=canary; Path=/")
    with RawServer.answering(answer, answer) as baker:
        service = JsonService("vehicle", baker.url, timeout_s=2, pool_size=1)
        get(service)
        get(service)
        service.close()

    assert len(baker.requests) == 2
    assert b"canary" not in baker.requests[1]


def test_neither_proxies_nor_netrc_are_used(
    server: RawServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The environment's proxies and credentials are not for calls between services."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login canary password canary")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    service = JsonService("vehicle", server.url, timeout_s=2, pool_size=1)

    assert get(service, with_token=False) == 1
    service.close()
    assert b"authorization" not in server.requests[0].lower()


def test_many_threads(server: RawServer, service: JsonService) -> None:
    """Threads share a service without mixing up answers or failing, also more of them than the pool is large."""

    def script(_server: RawServer, connection: socket.socket, _number: int) -> None:
        while request := read_request(connection):
            connection.sendall(whole(b'{"path": "%s"}' % request.split(b" ")[1]))

    with RawServer(script) as echo, ThreadPoolExecutor(16) as threads:
        service = JsonService("vehicle", echo.url, timeout_s=5, pool_size=4)
        paths = [f"/{number}/" for number in range(400)]
        answers = list(threads.map(lambda path: service.get(path, "t", service.deadline(None)), paths))
        service.close()

    assert [answer["path"] for answer in answers] == paths


def test_after_a_fork(server: RawServer) -> None:
    """Parent and child do not share connections: each gets its own answers."""
    script = """
import os, sys
from servease_appt.clients.service import JsonService

service = JsonService("vehicle", sys.argv[1], timeout_s=5, pool_size=4)

def connection():
    return service.get("/path/", "a.b.c", service.deadline(None))["connection"]

os.write(1, b"%d\\n" % connection())
child = os.fork()
os.write(1, b"%d\\n" % connection())
if child:
    assert os.waitpid(child, 0)[1] == 0
    os.write(1, b"%d\\n" % connection())
"""
    command = [sys.executable, "-c", script, server.url]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert (ended.returncode, ended.stderr) == (0, "")
    first, *both, last = ended.stdout.split()
    assert (first, sorted(both), last) == ("1", ["1", "2"], "1")


def test_closed_service(service: JsonService) -> None:
    """Calls after `close` fail as any call does."""
    get(service)
    service.close()

    with pytest.raises(Unavailable):
        get(service)


def test_unreachable_addresses_share_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host name with several addresses that do not answer takes no longer than one."""
    # A listener whose queue is full drops further connections: connecting to it takes for ever.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        address = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *_, **__: [address] * (4 if "example" in host else 1)
        )
        service = JsonService("vehicle", "http://several.example", timeout_s=0.3, pool_size=1)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            get(service)
        took_s = time.monotonic() - began
        for filler in fillers:
            filler.close()

    assert took_s < 0.6
