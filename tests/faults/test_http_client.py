"""The load's client: what it sends again, and what it calls no answer."""

import socket
import threading
from collections.abc import Iterator

import pytest

from faults.history import NO_ANSWER
from faults.http_client import Slot

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server


def serving(listening: socket.socket, *each: int) -> threading.Thread:
    """Serve one connection after the other, each with so many answers, and close it before the next request."""

    def serve() -> None:
        for answers in each:
            connection, _ = listening.accept()
            with connection:
                for _ in range(answers):
                    connection.recv(65_536)
                    connection.sendall(ANSWER)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def slot_for(listening: socket.socket) -> Slot:
    """A place for a connection to it."""
    return Slot(listening.getsockname()[1], "token")


def test_a_request_on_a_kept_connection_that_was_closed_is_sent_again(listening: socket.socket) -> None:
    """On a new one, once; the answer is that of the second time."""
    server = serving(listening, 1, 1)
    slot = slot_for(listening)
    assert slot.ask("GET", "/").status == 200
    slot.worker = 41
    answer = slot.ask("GET", "/")
    server.join()
    assert (answer.status, answer.body, slot.resent, slot.worker) == (200, b"ok", 1, 0)
    slot.close()


def test_a_request_on_a_new_connection_that_is_closed_has_no_answer(listening: socket.socket) -> None:
    """It may have been carried out: it is not sent again."""
    server = serving(listening, 0)
    slot = slot_for(listening)
    answer = slot.ask("GET", "/")
    server.join()
    assert (answer.status, slot.resent) == (NO_ANSWER, 0)
    assert answer.error


def test_a_server_that_is_gone_gives_no_answer(listening: socket.socket) -> None:
    """After an answer on a kept connection, too: refused once more, and that is all."""
    server = serving(listening, 1)
    slot = slot_for(listening)
    assert slot.ask("GET", "/").status == 200
    server.join()
    listening.close()
    assert slot.ask("GET", "/").status == NO_ANSWER
    assert slot.resent == 1


def test_waiting_has_an_end(listening: socket.socket) -> None:
    """A server that takes the connection and says nothing."""
    answer = slot_for(listening).ask("GET", "/", timeout_s=0.05)
    assert (answer.status, answer.error) == (NO_ANSWER, "no answer in time")
