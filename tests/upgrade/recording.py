"""Record what a version of the service writes: messages, keys, rows, and what clients send back to it.

The version is served by its own code on real servers, and is used from outside alone: over HTTP, by its commands
and by a Redis client. So one recorder fits every version.
"""

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psycopg2
import redis

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey
from tests.support.cli import CliProcess
from tests.support.dataset import Dataset, new_id
from tests.support.gunicorn import Gunicorn
from tests.support.processes import bare_environment
from tests.support.served import Client, settings

PREFIX: Final = "appointment_service"


def record(code: Path, directory: Path) -> dict[str, Any]:
    """Return what the version in the folder `code` writes."""
    with EmbeddedPostgres() as postgres, EmbeddedValkey() as valkey, FakeServices() as fakes:
        database = postgres.create_database("recorded")
        environment = settings(database, valkey.url(1), fakes)
        run_flask(code, environment, "db", "upgrade")
        app = create_app(Settings.from_mapping(environment))
        try:
            with (
                Gunicorn(environment, directory, workers=1, code=code) as gunicorn,
                Client(gunicorn.port) as client,
                redis.Redis.from_url(valkey.url(1)) as server,
                listening(server) as messages,
            ):
                recorder = _Recorder(code, environment, client, server, Dataset(app, fakes))
                recorded = recorder.run()
                recorded["messages"] = messages
                recorded["postgres"] = _rows(database)
        finally:
            app.extensions[EXTENSION].close()
    return _without_this_machine(recorded)


class _Recorder:
    def __init__(
        self,
        code: Path,
        environment: Mapping[str, str],
        client: Client,
        server: redis.Redis,
        dataset: Dataset,
    ) -> None:
        self.code = code
        self.environment = environment
        self.client = client
        self.server = server
        self.dataset = dataset
        self.fakes = dataset.fake_services

    def run(self) -> dict[str, Any]:
        recorded: dict[str, Any] = {"http": self._book()}
        unknown = new_id()
        self.dataset.appointment(customer_id=unknown, assigned_employee_id=self.dataset.erin_id)
        self.client.get("/api/v1/appointments/")
        recorded["ids"] = {
            "customer": self.dataset.alice_id,
            "vehicle": self.dataset.alices_car,
            "employee": self.dataset.erin_id,
            "unknown": unknown,
        }
        recorded["keys"] = self._keys()
        recorded["lease"] = self._lease()
        self._invalidate()
        recorded["sequence"] = self._value(f"{PREFIX}:__seq".encode())
        return recorded

    def _book(self) -> dict[str, Any]:
        body = self.dataset.booking()
        path = "/api/v1/appointments/"
        answer = self.client.ask("POST", path, body, {"Idempotency-Key": "recorded"})
        assert answer.status == 201, answer.body
        return {"booking": json.dumps(body), "etag": answer.headers["ETag"]}

    def _lease(self) -> str:
        """Return the lease of a load that a service does not answer for now."""
        slow = new_id()
        self.fakes.customers.put({"id": slow, "full_name": "Slow", "email": "s@example.com"})
        self.fakes.customers.rule(slow, hold=True)
        held = self.dataset.appointment(customer_id=slow)
        with Client(int(self.client.connection.port)) as other:
            reader = threading.Thread(target=other.get, args=(f"/api/v1/appointments/{held}/",))
            reader.start()
            name = f"{PREFIX}:__lease:{{{PREFIX}:customer_{slow}}}"
            assert wait_until(lambda: self.server.exists(name) == 1, timeout_s=10)
            lease = self.server.get(name)
            self.fakes.customers.release()
            reader.join()
        assert isinstance(lease, bytes)
        return lease.decode()

    def _invalidate(self) -> None:
        """Send messages of every form, and make the worker answer every query."""
        customer = f"customer_{self.dataset.alice_id}"
        body = {"entity": "customer", "ids": [self.dataset.alice_id, self.dataset.bob_id]}
        assert self.client.ask("POST", "/api/v1/cache/invalidate/", body).status == 200
        for words in (("clear", "--entity", "vehicle", "--yes"), ("stats",), ("explain", customer)):
            run_flask(self.code, self.environment, "cache", *words)
        with CliProcess(("monitor", "--json"), self.environment, code=self.code) as monitor:
            monitor.wait_for("Watching 1 worker", timeout_s=60)
            run_flask(self.code, self.environment, "cache", "invalidate", customer)
            monitor.wait_for(customer, timeout_s=60)
        for request in (customer, json.dumps({"pattern": "employee_*"})):
            self.server.publish(f"{PREFIX}:invalidate", request)

    def _keys(self) -> dict[str, Any]:
        return {key.decode(): self._value(key) for key in sorted(self.server.scan_iter(f"{PREFIX}:*"))}

    def _value(self, key: bytes) -> Any:
        if self.server.type(key) == b"hash":
            held: Any = self.server.hgetall(key)
            return {name.decode(): value.decode() for name, value in held.items()}
        value: Any = self.server.get(key)
        return value.decode()


def run_flask(code: Path, environment: Mapping[str, str], *words: str) -> str:
    """Run a command of the version in a folder; it has to end well. Returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *words],
        cwd=code,
        env={**bare_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def listening(server: redis.Redis) -> Iterator[dict[str, list[str]]]:
    """Collect by channel what is published until the block ends."""
    messages: dict[str, list[str]] = {}
    ended = threading.Event()
    with server.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.psubscribe(f"{PREFIX}:*")
        pubsub.get_message(timeout=5.0)

        def collect() -> None:
            while not ended.is_set():
                message = pubsub.get_message(ignore_subscribe_messages=True, timeout=0.2)
                if message is not None:
                    channel = re.sub(r"(__reply:).*", r"\1", message["channel"].decode())
                    messages.setdefault(channel, []).append(message["data"].decode())

        thread = threading.Thread(target=collect)
        thread.start()
        try:
            yield messages
        finally:
            ended.set()
            thread.join()


def _rows(database: str) -> dict[str, Any]:
    with contextlib.closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT version_num FROM appointment_service_alembic_version")
        ((version,),) = cursor.fetchall()
        cursor.execute(
            "SELECT row_to_json(k), row_to_json(a)"
            " FROM idempotency_keys AS k JOIN appointments AS a ON a.id = appointment_id"
        )
        ((key, appointment),) = cursor.fetchall()
    return {"version": version, "idempotency_key": key, "appointment": appointment}


def _without_this_machine(recorded: dict[str, Any]) -> dict[str, Any]:
    """Return it with another host name: workers are named by host and process."""
    host = rf"(?<![\w-]){re.escape(socket.gethostname())}(?![\w-])"
    cleaned: dict[str, Any] = json.loads(re.sub(host, "host", json.dumps(recorded)))
    return cleaned
