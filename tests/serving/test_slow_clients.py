"""Clients that send or read slowly hold no thread, and malformed requests change nothing."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from servease_appt.api.parsing import LARGEST_BODY
from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.serving.quick_worker import QuickWorker
from tests.support.dataset import BASE, Dataset, token
from tests.support.gunicorn import Gunicorn
from tests.support.served import Served, settings

THREADS = 2
ATTACKERS = 24
BEARER = token(user_role="admin", exp=4_000_000_000)
JSON_POST = f"Host: x\r\nAuthorization: Bearer {BEARER}\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def quick(
    new_database: Callable[[str], str],
    migrated_template: str,
    valkey: EmbeddedValkey,
    running_fake_services: FakeServices,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """One worker with two threads, which gives a request one second to arrive and one to be taken."""
    environment = settings(new_database(migrated_template), valkey.url(1), running_fake_services)
    app = create_app(Settings.from_mapping(environment))
    worker = ("--worker-class", "tests.serving.quick_worker.QuickWorker")
    directory = tmp_path_factory.mktemp("quick")
    with Gunicorn(environment, directory, workers=1, threads=THREADS, arguments=worker) as gunicorn:
        yield Served(gunicorn, Dataset(app, running_fake_services))
    app.extensions[EXTENSION].close()


def connect(served: Served) -> socket.socket:
    """Open a connection whose reads end after ten seconds."""
    return socket.create_connection(("127.0.0.1", served.gunicorn.port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    """Return everything up to the end of the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def send(served: Served, request: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes and return the whole answer."""
    with connect(served) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def status(answer: bytes) -> int:
    """Return the status of an answer."""
    return int(answer.split(b" ", 2)[1])


HALF_REQUESTS = {
    "one byte": b"G",
    "half the headers": b"GET /health/ HTTP/1.1\r\nHost: x\r\nX-A: ",
    "an unsent body": f"POST {BASE}/appointments/ HTTP/1.1\r\n{JSON_POST}Content-Length: 100\r\n\r\n{{".encode(),
    "half a chunk": f"POST {BASE}/a/ HTTP/1.1\r\n{JSON_POST}Transfer-Encoding: chunked\r\n\r\n9\r\n{{".encode(),
}


@pytest.mark.parametrize("sent", HALF_REQUESTS.values(), ids=HALF_REQUESTS.keys())
def test_half_a_request_holds_no_thread(quick: Served, sent: bytes) -> None:
    """While more clients than threads have sent a part, others are answered; the parts end with 408."""
    attackers = [connect(quick) for _ in range(ATTACKERS)]
    try:
        for attacker in attackers:
            attacker.sendall(sent)
        for _ in range(5):
            assert quick.get(f"{BASE}/appointments/").status == 200
        answers = [read_all(attacker) for attacker in attackers]
    finally:
        for attacker in attackers:
            attacker.close()
    assert {status(answer) for answer in answers} == {408}
    assert json.loads(answers[0].partition(b"\r\n\r\n")[2]) == {"detail": "Request Timeout."}


def test_a_byte_now_and_then_gains_no_time(quick: Served) -> None:
    """The deadline counts from the first byte of a request, not from the last one received."""
    with connect(quick) as attacker:
        attacker.sendall(b"GET /health/ HTTP/1.1\r\nX-A: ")
        attacker.settimeout(0.1)
        began_s, answer = time.monotonic(), b""
        while not answer and time.monotonic() - began_s < 8:
            attacker.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                answer = attacker.recv(4096)
    assert status(answer) == 408


def test_clients_that_do_not_read_hold_no_thread(quick: Served) -> None:
    """Answers that nobody takes are kept by the event loop, and dropped after a while."""
    request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    attackers = []
    for _ in range(ATTACKERS):
        attacker = socket.socket()
        attacker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        attacker.connect(("127.0.0.1", quick.gunicorn.port))
        attackers.append(attacker)
    try:
        for attacker in attackers:
            attacker.sendall(request.encode() * 60)
        for _ in range(5):
            assert quick.get(f"{BASE}/appointments/").status == 200
        (worker,) = quick.gunicorn.worker_pids()
        assert wait_until(lambda: _open_connections(worker, quick.gunicorn.port) < ATTACKERS, timeout_s=20)
    finally:
        for attacker in attackers:
            attacker.close()


def _open_connections(pid: int, port: int) -> int:
    """Count the connections of a process that clients have opened to a port and both sides keep open."""
    links = psutil.Process(pid).net_connections("tcp")
    return sum(link.laddr.port == port and link.status == psutil.CONN_ESTABLISHED for link in links)


def test_a_request_that_has_waited_too_long_is_503(
    quick: Served, running_fake_services: FakeServices
) -> None:
    """While both threads wait for a service, a third request is queued; when its turn comes, it is too late."""
    dataset = quick.dataset
    dataset.clear()
    dataset.appointment()
    quick.ask("POST", f"{BASE}/cache/invalidate/", {"entity": "customer", "ids": [dataset.alice_id]})
    running_fake_services.customers.rule(hold=True)
    request = f"GET {BASE}/appointments/ HTTP/1.1\r\n{JSON_POST}Connection: close\r\n\r\n".encode()
    connections = [connect(quick) for _ in range(THREADS + 1)]
    try:
        for connection in connections:
            connection.sendall(request)
        running_fake_services.customers.wait_for(held=1)
        sent_at_s = time.monotonic()
        assert wait_until(lambda: time.monotonic() - sent_at_s > 2 * QuickWorker.max_queued_s, timeout_s=5)
        running_fake_services.customers.release()
        answers = [read_all(connection) for connection in connections]
    finally:
        running_fake_services.reset()
        for connection in connections:
            connection.close()
    assert sorted(map(status, answers)) == [200] * THREADS + [503]
    assert any(b"Retry-After: 1\r\n" in answer for answer in answers)


MALFORMED = {
    "no number": b"Z\r\n{}\r\n0\r\n\r\n",
    "no size": b"\r\n{}\r\n0\r\n\r\n",
    "0x2": b"0x2\r\n{}\r\n0\r\n\r\n",
    "negative": b"-2\r\n{}\r\n0\r\n\r\n",
    "no line end behind the data": b"2\r\n{}X\r\n0\r\n\r\n",
    "a bare line feed": b"2;a\n{}\r\n0\r\n\r\n",
    "a bad trailer": b"2\r\n{}\r\n0\r\nnocolon\r\n\r\n",
    "a long size line": b"2" * 20000 + b"\r\n",
    "too many trailers": b"2\r\n{}\r\n0\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_body_is_400_and_changes_nothing(quick: Served, body: bytes) -> None:
    """The connection ends, nothing is logged as an error, and the appointment is not cancelled."""
    appointment = quick.dataset.appointment()
    path = f"{BASE}/appointments/{appointment}/cancel/"
    answer = send(
        quick, f"POST {path} HTTP/1.1\r\n{JSON_POST}Transfer-Encoding: chunked\r\n\r\n".encode() + body
    )
    assert status(answer) in (400, 431)
    assert b"Connection: close" in answer
    assert quick.get(f"{BASE}/appointments/{appointment}/").json["status"] == "pending"
    assert not [line for line in quick.log_lines() if line["level"] == "ERROR"]


@pytest.mark.parametrize(
    "framing", ["Content-Length: 100\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"]
)
def test_a_body_that_ends_early_is_400_and_changes_nothing(quick: Served, framing: str) -> None:
    """A client that closes before it has sent what it announced has not asked for anything."""
    appointment = quick.dataset.appointment()
    path = f"{BASE}/appointments/{appointment}/cancel/"
    answer = send(quick, f"POST {path} HTTP/1.1\r\n{JSON_POST}{framing}".encode(), half_close=True)
    assert status(answer) == 400
    assert quick.get(f"{BASE}/appointments/{appointment}/").json["status"] == "pending"


def test_a_large_body_ends_the_connection_and_says_so(quick: Served) -> None:
    """What is over 1 MB is 413 without being read, and the next request on the connection is never guessed."""
    path = f"{BASE}/appointments/"
    head = f"POST {path} HTTP/1.1\r\n{JSON_POST}Content-Length: {LARGEST_BODY + 1}\r\n\r\n"
    answer = send(quick, head.encode() + b"x" * 1000)
    assert status(answer) == 413
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1") == 1


def test_requests_sent_at_once_are_answered_in_order(quick: Served) -> None:
    """What comes behind a request is the next one."""
    one = "GET /health/ HTTP/1.1\r\nHost: x\r\n"
    answer = send(quick, f"{one}\r\n{one}\r\n{one}Connection: close\r\n\r\n".encode())
    assert answer.count(b"HTTP/1.1 200") == 3


def test_a_client_that_waits_for_the_word_gets_it(quick: Served) -> None:
    """`Expect: 100-continue` is answered before the body is there."""
    body = json.dumps({"entity": "customer", "ids": []}).encode()
    with connect(quick) as connection:
        head = f"POST {BASE}/cache/invalidate/ HTTP/1.1\r\n{JSON_POST}Expect: 100-continue\r\n"
        connection.sendall(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 100") == 0


def test_a_full_queue_is_503_and_probes_go_on(quick: Served, running_fake_services: FakeServices) -> None:
    """Beyond the limit a request is refused at once, with the time to come back; health is answered meanwhile."""
    dataset = quick.dataset
    dataset.clear()
    dataset.appointment()
    running_fake_services.customers.delay(0.5)
    flood = f"GET {BASE}/appointments/?page_size=100 HTTP/1.1\r\n{JSON_POST}\r\n".encode()
    connections = [connect(quick) for _ in range(THREADS * 16 + 40)]
    answers: list[bytes] = []
    try:
        for connection in connections:
            connection.sendall(flood.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        began_s = time.monotonic()
        assert quick.get("/health/").status == 200
        assert time.monotonic() - began_s < 5
        readers = [
            threading.Thread(target=lambda c=connection: answers.append(read_all(c)))
            for connection in connections
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    finally:
        running_fake_services.customers.delay(0)
        for connection in connections:
            connection.close()
    refused = [answer for answer in answers if status(answer) == 503]
    assert {status(answer) for answer in answers} == {200, 503}
    assert all(b"Retry-After: 1\r\n" in answer for answer in refused)
    assert wait_until(
        lambda: any('reason="queue_full"' in name and n for name, n in quick.metrics().items()), timeout_s=5
    )
