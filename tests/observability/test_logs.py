"""Logs: one line of JSON an event, which nobody outside can break, and in which nobody's data is."""

import json
import logging
import re
import socket
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from servease_appt.app import create_app, install
from servease_appt.container import EXTENSION
from servease_appt.observability.logs import JsonFormatter
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.dataset import SECRET, new_id, token
from tests.support.served import Served, serve, settings

LIST = "/api/v1/appointments/"
EVIL = "a\nb\r\nc\x1b[31md\x85e\u2028f\ud800g\x00h"


def _raw(served: Served, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", served.gunicorn.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def _access(served: Served, request_id: str) -> dict[str, object]:
    assert wait_until(lambda: request_id in served.gunicorn.read_log(), timeout_s=30)
    (line,) = (line for line in served.log_lines() if line.get("request_id") == request_id)
    return line


def test_a_request_is_one_line(served: Served) -> None:
    """The access line tells who served what and how it went, by the route's name."""
    appointment = served.dataset.appointment(customer_id=new_id())
    answer = served.ask("GET", f"{LIST}{appointment}/?x=1", headers={"X-Request-Id": "one-line-1"})

    line = _access(served, "one-line-1")

    assert answer.headers["X-Request-Id"] == "one-line-1"
    assert line.keys() == {
        *("time", "level", "logger", "pid", "message", "request_id", "method", "route", "status"),
        *("duration_ms", "cache"),
    }
    assert (line["method"], line["route"], line["status"]) == ("GET", "get_appointment", 200)
    assert line["pid"] in served.gunicorn.worker_pids()
    assert line["cache"] == {
        name: int(n) for name, n in (part.split("=") for part in answer.headers["X-Cache"].split())
    }
    assert isinstance(line["duration_ms"], float)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line["time"]))


def test_nobodys_data_is_in_a_log_or_metric(served: Served) -> None:
    """Tokens, names, e-mails, notes, ids and queries that go through every kind of request leave no trace."""
    dataset = served.dataset
    canary, name = f"canary{new_id()[:8]}", "Kanarina Vogelsang"
    dataset.fake_services.customers.put(
        {"id": dataset.alice_id, "full_name": name, "email": f"{canary}@example.com"}
    )
    bearer = token(user_id=dataset.alice_id, first_name=name, email=f"{canary}@example.com")
    appointment = dataset.appointment(customer_notes=canary)
    with served.client(bearer) as client:
        assert name.encode() in client.get(f"{LIST}?customer_id={dataset.alice_id}&note={canary}").body
        client.ask("POST", LIST, dataset.booking(customer_notes=canary, appointment_type=canary))
        client.ask("PATCH", f"{LIST}{appointment}/", {"customer_notes": canary, canary: canary})
        client.ask("POST", f"{LIST}{appointment}/cancel/", {"reason": canary})
        client.ask("GET", f"/{canary}?q={canary}")
        client.ask("GET", LIST, headers={"Authorization": f"Bearer {bearer}x"})
        client.ask("GET", LIST, headers={"X-Request-Id": f"{canary}@{canary}"})
    dataset.fake_services.customers.rule(match=dataset.bob_id, body=f"{canary} is no JSON")
    dataset.appointment(customer_id=dataset.bob_id)
    served.get(LIST)
    _raw(served, f"GET {LIST} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\x00\r\n\r\n".encode())
    _raw(served, f"GET {LIST}?token={bearer}&{canary} HTTP/9.9\r\nHost: x\r\n\r\n".encode())
    _raw(served, f"{bearer} {canary}@example.com\r\n\r\n".encode())

    told = served.gunicorn.read_log() + served.get("/metrics").body.decode()

    assert "list_appointments" in told
    for secret in (bearer, bearer.split(".")[1], name, f"{canary}@", dataset.alice_id, appointment):
        assert secret not in told
    assert canary not in told


def test_no_request_can_break_a_line(served: Served) -> None:
    """Control characters, line ends of any alphabet and a megabyte in any place leave one JSON line an event."""
    raw = EVIL.encode(errors="surrogatepass")
    for request in (
        b"GET /" + raw + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + raw + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + raw + b": y\r\n\r\n",
        raw + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/" + raw + b"\r\nHost: x\r\n\r\n",
        b"GET /%0a%0d%1b%5b31m%c2%85%e2%80%a8 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ):
        _raw(served, request)
    served.ask("EVILMETHOD", "/", headers={"X-Request-Id": "evil-one"})
    served.ask("GET", f"/{'x' * 3000}", headers={"User-Agent": "y" * 7000, "X-Request-Id": "last-one"})
    _access(served, "last-one")
    assert _access(served, "evil-one")["method"] == "other"

    log = served.gunicorn.read_log()

    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())
    assert log.isascii()
    assert "\x1b" not in log
    assert max(map(len, log.splitlines())) < 4096


@pytest.mark.parametrize("message", [EVIL, "é" * 1_000_000, f"{EVIL * 1000}"], ids=["evil", "long", "both"])
def test_any_record_is_one_short_line(message: str) -> None:
    """Whatever is logged, with a traceback too, is one ASCII line that a pipe takes whole."""
    try:
        raise ValueError(message)  # noqa: TRY301
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "%s", (message,), sys.exc_info())

    line = JsonFormatter().format(record)

    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 4096
    assert json.loads(line)["message"][:1] == message[:1]
    assert json.loads(line)["exception"]


@pytest.mark.parametrize(
    "secret",
    [
        token(),
        "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyIjoxfQ",
        "Bearer abc.def",
        "alice@example.com",
        "/api/v1/appointments/?customer_id=5f0c7a52",
        "redis://user:hush@redis:6379/1",
    ],
)
def test_what_looks_like_a_secret_is_struck_out(secret: str) -> None:
    """In messages and in tracebacks, wherever the text came from."""
    try:
        raise ValueError(secret)  # noqa: TRY301
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, f"so {secret} it was", (), sys.exc_info())

    line = json.loads(JsonFormatter().format(record))

    told = line["message"] + line["exception"].replace(f"raise ValueError({secret!r})", "")
    kept = re.split(r"\?|://|Bearer ", secret)
    assert kept[-1] not in told
    assert "hush" not in told
    assert "***" in line["message"]
    assert line["message"].startswith("so ")
    assert line["message"].endswith(" it was")


def test_the_package_leaves_logging_alone() -> None:
    """Neither our application nor an embedding adds a handler or sets a level: that is gunicorn.conf.py's."""
    loggers = [logging.getLogger(), logging.getLogger("servease_appt"), logging.getLogger("gunicorn.access")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    given = {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": "postgresql://nowhere/x",
        "REDIS_URL": "redis://127.0.0.1:1/1",
    }

    app = create_app(Settings.from_mapping(given))
    app.test_client().get("/api/v1/health/")
    app.extensions[EXTENSION].close()
    from flask import Flask

    host = Flask("host")
    container = install(host, settings=given)
    host.test_client().get("/api/v1/health/")
    container.close()

    assert [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers] == before


def test_redis_away_is_told_when_it_changes(
    own_valkey: EmbeddedValkey,
    new_database: Callable[[str], str],
    migrated_template: str,
    fake_services: FakeServices,
    tmp_path: Path,
) -> None:
    """A dead Redis is a line or two in each worker however many requests meet it; states follow in the metrics."""
    environment = settings(new_database(migrated_template), own_valkey.url(1), fake_services)
    with serve(environment, fake_services, tmp_path) as served:
        served.dataset.appointment()
        served.wait_for_metric(r'servease_cache_mode\{mode="both"\}', 2)

        own_valkey.kill()

        def both_workers_know() -> bool:
            return (
                served.get(LIST).status == 200
                and served.metrics()['servease_cache_mode{mode="l1_only"}'] == 2
            )

        assert wait_until(both_workers_know, timeout_s=30, interval_s=0.02)
        warned = Counter(line["message"] for line in served.log_lines() if line["level"] != "INFO")
        for _ in range(50):
            assert served.get(LIST).status == 200
        metrics = served.metrics()
        again = Counter(line["message"] for line in served.log_lines() if line["level"] != "INFO")
        own_valkey.restart()
        served.wait_for_metric(r'servease_cache_mode\{mode="both"\}', 2, timeout_s=30)
        served.wait_for_metric(r'servease_breaker_state\{breaker="redis",state="closed"\}', 2)
        at_the_end = Counter(line["message"] for line in served.log_lines() if line["level"] != "INFO")

    assert again == warned
    assert warned["Redis does not answer: going on without it"] == 2
    assert 2 <= warned.total() <= 4
    assert metrics['servease_breaker_state{breaker="redis",state="closed"}'] == 0
    assert metrics['servease_breaker_transitions_total{breaker="redis",state="open"}'] == 2
    assert any('outcome="error"' in name for name in metrics if name.startswith("servease_redis_operation"))
    assert at_the_end["Redis answers again"] == 2
    assert at_the_end["Invalidation channel is back"] == 2
