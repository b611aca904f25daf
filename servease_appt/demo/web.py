"""Start the service under gunicorn, as in production, with the demo's settings."""

import http.client
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from servease_appt.testing.processes import GuardedProcess, ProcessError, wait_until

API = "/api/v1"
HOST = "127.0.0.1"
_START_TIMEOUT_S = 30.0


class Answer(NamedTuple):
    """One answer of the service."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Connection:
    """One kept-alive connection, hence to one worker, with one caller's token. A context manager."""

    def __init__(self, port: int, token: str) -> None:
        self._http = http.client.HTTPConnection(HOST, port, timeout=30)
        self._headers = {"Authorization": f"Bearer {token}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str) -> Answer:
        """GET a path and return the answer with its JSON body."""
        self._http.request("GET", path, headers=self._headers)
        answer = self._http.getresponse()
        body = answer.read()
        return Answer(answer.status, dict(answer.getheaders()), json.loads(body))


def start_service(
    root: Path, directory: Path, port: int, settings: Mapping[str, str], *, workers: int
) -> GuardedProcess:
    """Start gunicorn and wait until the service is ready.

    Args:
        root: where `wsgi.py` and `gunicorn.conf.py` are.
        directory: for its log.
        settings: its environment, on top of this process's own.

    Raises:
        ProcessError: it is not ready in time; the text has its log.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if name != "GUNICORN_CMD_ARGS"},
        **settings,
        "BIND": f"{HOST}:{port}",
        "WEB_CONCURRENCY": str(workers),
        "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
    }
    process = GuardedProcess(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"],
        log=directory / "gunicorn.log",
        directory=root,
        environment=environment,
        grace_s=5,
    )
    wait_until(
        lambda: _is_ready(port) or process.poll() is not None, timeout_s=_START_TIMEOUT_S, interval_s=0.02
    )
    if process.poll() is not None or not _is_ready(port):
        process.stop()
        raise ProcessError(f"gunicorn did not get ready on {HOST}:{port}:\n{process.log_tail()}")
    return process


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", f"{API}/health/ready/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
