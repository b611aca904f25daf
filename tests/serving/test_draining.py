"""Stopping: what has begun is finished, and readiness says so to whoever can still ask."""

import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.served import Answer, serve, settings

LIST = "/api/v1/appointments/"
READY = "/api/v1/health/ready/"


def refuses_connections(port: int) -> bool:
    """Return whether nobody listens any more."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_stopping_worker_is_not_ready_and_finishes_what_has_begun(
    valkey: EmbeddedValkey,
    new_database: Callable[[str], str],
    migrated_template: str,
    fake_services: FakeServices,
    tmp_path: Path,
) -> None:
    """After SIGTERM: 503 `draining` on a kept-alive connection, 200 for the request under way, exit code 0.

    A new connection is refused, so that a proxy asks another worker at once. The system would take it and nobody
    answer it, while any process has the listening socket.
    """
    environment = settings(
        new_database(migrated_template),
        valkey.url(1),
        fake_services,
        UPSTREAM_TIMEOUT="20",
        CACHE_KEY_PREFIX="draining",
    )
    with serve(environment, fake_services, tmp_path, workers=1) as served, ThreadPoolExecutor(1) as pool:
        served.dataset.appointment()
        fake_services.customers.rule(hold=True)
        under_way = pool.submit(served.get, LIST)
        fake_services.customers.wait_for(held=1)
        with served.client() as kept_alive:
            before = kept_alive.get(READY)

            served.gunicorn.send(signal.SIGTERM)
            answers: list[Answer] = []

            def is_unready() -> bool:
                answers.append(kept_alive.get(READY))
                return answers[-1].headers["Connection"] == "close"

            assert wait_until(is_unready, timeout_s=30)
            refused = wait_until(lambda: refuses_connections(served.gunicorn.port), timeout_s=10)
            still_under_way = not under_way.done()
            fake_services.customers.release()
            finished = under_way.result(timeout=30)
        exit_code = served.gunicorn.wait(30)

    assert refused
    assert before.json["status"] == "ready"
    # The signal may come within a request, after it was announced that its connection stays open.
    *others, last = answers
    assert {answer.status for answer in others[:-1]} <= {200}
    assert {answer.status for answer in others[-1:]} <= {200, 503}
    assert last.status == 503
    assert last.json["status"] == "draining"
    assert answers[-1].headers["Retry-After"]
    assert still_under_way
    assert finished.status == 200
    assert finished.json["results"][0]["customer_name"] == "Alice Ant"
    assert exit_code == 0
