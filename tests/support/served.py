"""The whole service under gunicorn, with a data set and an HTTP client."""

import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flask import Flask
from werkzeug.serving import make_server

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from tests.support.dataset import SECRET, Dataset, token
from tests.support.gunicorn import Gunicorn

ADMIN = token(user_role="admin", exp=4_000_000_000)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Client:
    """One kept-alive connection. A context manager."""

    def __init__(self, port: int, bearer: str | None = ADMIN) -> None:
        self._bearer = bearer
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request, with the client's token unless `headers` has another."""
        sent = {"Content-Type": "application/json"} if body is not None else {}
        if self._bearer:
            sent["Authorization"] = f"Bearer {self._bearer}"
        self.connection.request(
            method, path, None if body is None else json.dumps(body), {**sent, **(headers or {})}
        )
        answer = self.connection.getresponse()
        return Answer(answer.status, dict(answer.headers), answer.read())

    def get(self, path: str) -> Answer:
        """Send a GET."""
        return self.ask("GET", path)


class Served:
    """gunicorn, the servers behind it, and a `Dataset` that writes into its database."""

    def __init__(self, gunicorn: Gunicorn, dataset: Dataset) -> None:
        self.gunicorn = gunicorn
        self.dataset = dataset

    def client(self, bearer: str | None = ADMIN) -> Client:
        """Return a client with a connection of its own."""
        return Client(self.gunicorn.port, bearer)

    def get(self, path: str, bearer: str | None = ADMIN) -> Answer:
        """Send one GET on a new connection, so that any worker may answer."""
        return self.ask("GET", path, bearer=bearer)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        bearer: str | None = ADMIN,
    ) -> Answer:
        """Send one request on a new connection."""
        with self.client(bearer) as client:
            return client.ask(method, path, body, headers)

    def metrics(self) -> dict[str, float]:
        """Return the samples of `/metrics`, by name and labels."""
        answer = self.get("/metrics")
        assert answer.status == 200, self.gunicorn.read_log()
        lines = answer.body.decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def wait_for_metric(self, pattern: str, value: float, timeout_s: float = 30.0) -> None:
        """Wait until the sum of the samples that match has this value."""

        def reached() -> bool:
            return sum(n for name, n in self.metrics().items() if re.fullmatch(pattern, name)) == value

        assert wait_until(reached, timeout_s=timeout_s, interval_s=0.05), (pattern, value, self.metrics())

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the parsed lines of the log, without one that is still being written."""
        return [json.loads(line) for line in self.gunicorn.read_log().split("\n")[:-1] if line]


@contextmanager
def serve(
    environment: Mapping[str, str], fake_services: FakeServices, directory: Path, *, workers: int = 2
) -> Iterator[Served]:
    """Start the service; `environment` has its settings."""
    app = create_app(Settings.from_mapping(environment))
    try:
        with Gunicorn(environment, directory, workers=workers) as gunicorn:
            yield Served(gunicorn, Dataset(app, fake_services))
    finally:
        app.extensions[EXTENSION].close()


def settings(database_url: str, redis_url: str, fake_services: FakeServices, **more: str) -> dict[str, str]:
    """Return the service's environment."""
    return {
        "SECRET_KEY": SECRET,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        **fake_services.settings,
        **more,
    }


@contextmanager
def over_http(app: Flask) -> Iterator[str]:
    """Serve an application of this process to a browser; yield its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
