"""What clients see of the service while PostgreSQL hangs or ends connections."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import make_url

from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.fault_proxy import Proxy
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.gunicorn import Gunicorn
from tests.support.served import Answer, Client, settings

THREADS = 8
MOST_S = 5.0
"""What the contract allows an answer to take while PostgreSQL hangs."""


@pytest.fixture
def proxy(migrated_postgres_url: str) -> Iterator[Proxy]:
    """The network between the service and PostgreSQL."""
    with Proxy(make_url(migrated_postgres_url).port or 0) as between:
        yield between


@pytest.fixture
def served(
    proxy: Proxy,
    migrated_postgres_url: str,
    valkey: EmbeddedValkey,
    running_fake_services: FakeServices,
    tmp_path: Path,
) -> Iterator[Gunicorn]:
    """One worker, so that the threads of all that is there can be counted."""
    url = make_url(migrated_postgres_url).set(port=proxy.port).render_as_string(hide_password=False)
    environment = settings(url, valkey.url(1), running_fake_services)
    with Gunicorn(environment, tmp_path, workers=1, threads=THREADS) as gunicorn:
        yield gunicorn


def ask(gunicorn: Gunicorn, method: str, path: str, body: object = None) -> tuple[Answer, float]:
    """The answer, and the seconds that it took."""
    began_s = time.monotonic()
    with Client(gunicorn.port) as client:
        answer = client.ask(method, f"/api/v1{path}", body)
    return answer, time.monotonic() - began_s


def change(gunicorn: Gunicorn) -> tuple[Answer, float]:
    """Change an appointment that there is not: a transaction that ends in 404."""
    return ask(gunicorn, "PATCH", f"/appointments/{uuid.uuid4()}/", {"customer_notes": "x"})


def listed(gunicorn: Gunicorn) -> tuple[Answer, float]:
    return ask(gunicorn, "GET", "/appointments/")


def test_a_hanging_postgres_takes_no_thread_away(served: Gunicorn, proxy: Proxy) -> None:
    """As many requests as there are threads end in time; those that follow are answered at once, and health."""
    kinds: list[Callable[[Gunicorn], tuple[Answer, float]]] = [change, listed]
    with ThreadPoolExecutor(THREADS) as clients:
        warm = list(clients.map(lambda n: kinds[n % 2](served), range(4 * THREADS)))
        assert {answer.status for answer, _ in warm} == {200, 404}

        proxy.data.black_hole()
        hanging = list(clients.map(lambda n: kinds[n % 2](served), range(THREADS)))
    assert {answer.status for answer, _ in hanging} == {503}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer, _ in hanging)
    assert max(seconds for _, seconds in hanging) < MOST_S

    # One of these may be the trial; all the others are refused at once.
    took_s = sorted(listed(served)[1] for _ in range(10))
    assert took_s[-2] < 1
    assert took_s[-1] < MOST_S
    assert ask(served, "GET", "/health/")[0].status == 200
    ready, _ = ask(served, "GET", "/health/ready/")
    assert ready.json["checks"]["database_cause"] == "deadline: PostgreSQL did not answer in time"
    assert served.log.read_text().count("cause: deadline") == 1

    proxy.data.heal()
    assert wait_until(lambda: listed(served)[0].status == 200, timeout_s=20)
    assert change(served)[0].status == 404


def test_ended_backends_are_never_an_unknown_error(served: Gunicorn, migrated_postgres_url: str) -> None:
    """Whatever moment PostgreSQL ends a connection at, the answer is the usual one or 503."""
    over = threading.Event()
    statuses: Counter[int] = Counter()

    def go_on() -> None:
        while not over.is_set():
            statuses[change(served)[0].status] += 1

    clients = [threading.Thread(target=go_on) for _ in range(4)]
    for client in clients:
        client.start()
    admin = psycopg2.connect(migrated_postgres_url.replace("+psycopg2", ""))
    admin.autocommit = True
    cursor = admin.cursor()
    try:
        for _ in range(100):
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    finally:
        over.set()
        for client in clients:
            client.join()
        admin.close()

    assert set(statuses) <= {404, 503}
    assert statuses[404] + statuses[503] > 0
