"""The service under gunicorn, with the repository's own configuration."""

import http.client
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from servease_appt.testing.processes import GuardedProcess, wait_until
from servease_appt.testing.servers import free_port
from tests.support.processes import alive, bare_environment, descendants

REPOSITORY = Path(__file__).resolve().parents[2]
_PORT_ATTEMPTS = 5
_START_TIMEOUT_S = 60.0


class Gunicorn:
    """`gunicorn -c gunicorn.conf.py wsgi:app` on a free port. A context manager.

    Args:
        settings: the service's environment variables; of this process's own only `bare_environment` is passed on.
        directory: for its log.
        workers: how many worker processes.
        threads: how many threads each.
        arguments: further arguments of gunicorn's.
        application: what to serve.
        address: the address to listen on.
        within: a command that runs the one after it, such as one that enters a network namespace.
        code: the folder with the package, wsgi.py and gunicorn.conf.py; another one than the repository has
            another version's.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        directory: Path,
        *,
        workers: int = 2,
        threads: int = 8,
        arguments: tuple[str, ...] = (),
        application: str = "wsgi:app",
        address: str = "127.0.0.1",
        within: tuple[str, ...] = (),
        code: Path = REPOSITORY,
    ) -> None:
        self.settings = {"PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"), **settings}
        self.log = directory / "gunicorn.log"
        self.address = address
        self.port = 0
        self._within = within
        self._code = code
        self._arguments = [
            *(
                "-c",
                str(code / "gunicorn.conf.py"),
                "--workers",
                str(workers),
                "--threads",
                str(threads),
            ),
            *arguments,
            application,
        ]
        self._process: GuardedProcess | None = None

    @property
    def url(self) -> str:
        """Return scheme, host and port, without a slash at the end."""
        return f"http://{self.address}:{self.port}"

    @property
    def pid(self) -> int:
        """Return the process id of gunicorn's master."""
        return self._running().pid

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start gunicorn and wait until a worker answers.

        Raises:
            AssertionError: no worker answered in time; the text has the log.
        """
        for _ in range(_PORT_ATTEMPTS):
            self.port = free_port()
            self.log.write_bytes(b"")
            bind = ("--bind", f"{self.address}:{self.port}")
            process = self._process = GuardedProcess(
                [*self._within, sys.executable, "-m", "gunicorn", *bind, *self._arguments],
                log=self.log,
                directory=self._code,
                environment={**bare_environment(), **self.settings},
            )
            wait_until(self._answers_or_ended, timeout_s=_START_TIMEOUT_S, interval_s=0.02)
            if process.poll() is None and self._answers():
                return self
            process.stop()
            if "already in use" not in self.read_log():
                break
        raise AssertionError(f"gunicorn did not start:\n{self.read_log()}")

    def stop(self) -> int | None:
        """Stop gunicorn by SIGTERM and return its exit code."""
        if self._process is None:
            return None
        self._process.stop()
        return self._process.poll()

    def send(self, number: int) -> None:
        """Send a signal to the master."""
        self._running().send(number)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the master to end by itself. Returns its exit code, or None if it still runs."""
        return self._running().wait(timeout_s)

    def read_log(self) -> str:
        """Return the log so far."""
        return self.log.read_text(errors="replace")

    def worker_pids(self) -> list[int]:
        """Return the process ids of the live workers."""
        return sorted(alive(descendants(self.pid)))

    def _answers_or_ended(self) -> bool:
        return self._running().poll() is not None or self._answers()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=1)
        try:
            connection.request("GET", "/api/v1/health/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _running(self) -> GuardedProcess:
        assert self._process is not None, "not started"
        return self._process
