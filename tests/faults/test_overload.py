"""The verdict over load at twice what can be served, and the generator that does not wait."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from faults import overload
from faults.open_loop import OpenLoop, Sent

GOOD = Sent(requests=200, seconds=2.0, took_ms=[900.0] * 100, refused=100, refused_ms=[5.0] * 100)


def test_a_run_that_breaks_nothing() -> None:
    """Its figures are those of the load."""
    found = overload.judge(50.0, GOOD, [10.0, 20.0])

    assert found.kept
    assert (found.offered, found.served, found.share_refused) == (100.0, 50.0, 0.5)
    assert (found.let_in_p99_ms, found.health_max_ms) == (900.0, 20.0)
    assert "| 50% |" in found.text()


@pytest.mark.parametrize(
    ("sent", "health_ms", "broken"),
    [
        (replace(GOOD, refused=0), [1.0], "nothing was refused"),
        (replace(GOOD, without_retry_after=3), [1.0], "3 refusals without Retry-After"),
        (replace(GOOD, took_ms=[2001.0]), [1.0], "what was let in took 2001 ms (p99)"),
        (replace(GOOD, other={"500": 2}), [1.0], "2 × 500"),
        (GOOD, [1.0, None], "1 of 2 health checks failed"),
        (GOOD, [], "0 of 0 health checks failed"),
        (GOOD, [1.0, 3001.0], "a health check took 3001 ms"),
    ],
)
def test_each_violation_is_named(sent: Sent, health_ms: list[float | None], broken: str) -> None:
    """One thing more, and the promise counts as broken."""
    assert overload.judge(50.0, sent, health_ms).broken == [broken]


class _Server(BaseHTTPRequestHandler):
    """Answers every second request with 503."""

    protocol_version = "HTTP/1.1"
    numbers = iter(range(1_000_000))

    def do_GET(self) -> None:
        status = 503 if next(self.numbers) % 2 else 200
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """The port of such a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_the_generator_counts_every_request(port: int) -> None:
    """Each is answered or refused, at about the rate that was asked for, and can be handed on as JSON."""
    sent = OpenLoop(port, "token", "/", 400.0).run(0.25)

    assert sent.requests == len(sent.took_ms) + sent.refused > 0
    assert abs(len(sent.took_ms) - sent.refused) <= 1
    assert (sent.without_retry_after, sent.other) == (0, {})
    assert json.loads(json.dumps(sent.took_ms)) == sent.took_ms
