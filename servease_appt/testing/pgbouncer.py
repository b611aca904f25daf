"""A PgBouncer in transaction mode for tests and benchmarks, from the system: there is no wheel of it."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from servease_appt.testing.processes import GuardedProcess, ProcessError, ordinary_account, wait_until
from servease_appt.testing.servers import HOST, free_port

PROGRAM: Final = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
"""The path of PgBouncer; None if it is not installed."""
_START_TIMEOUT_S: Final = 15.0
_PORT_ATTEMPTS: Final = 5


class EmbeddedPgBouncer:
    """PgBouncer in front of a PostgreSQL server, otherwise with its default configuration. A context manager."""

    def __init__(self, url: str, settings: Mapping[str, str] | None = None) -> None:
        """Prepare a pooler; entering the context starts it.

        Args:
            url: the `postgresql://` URL of a database of the server, with user and password.
            settings: further settings of the section `[pgbouncer]`.
        """
        if PROGRAM is None:
            raise ProcessError("pgbouncer is not installed (Debian: apt install pgbouncer)")
        self._program = PROGRAM
        self._server = urlsplit(url)
        self._settings = dict(settings or {})
        self._process: GuardedProcess | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        """Return the process id of the pooler."""
        if self._process is None:
            raise ProcessError("pgbouncer has not been started")
        return self._process.pid

    @property
    def url(self) -> str:
        """Return the URL of the same database through the pooler."""
        user = self._server.netloc.rpartition("@")[0]
        return self._server._replace(netloc=f"{user}@{HOST}:{self.port}").geturl()

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="servease-"))
        for _ in range(_PORT_ATTEMPTS):
            self.port = free_port()
            if self._starts():
                return self
        said = "" if self._process is None else self._process.log_tail()
        self.__exit__(None, None, None)
        raise ProcessError(f"pgbouncer did not start:\n{said}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _starts(self) -> bool:
        users, ini, log = (self._directory / name for name in ("users", "ini", "log"))
        users.write_text(f'"{self._server.username}" "{unquote(self._server.password or "")}"\n')
        lines = {
            "listen_addr": HOST,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "plain",
            "auth_file": str(users),
            "pool_mode": "transaction",
            **self._settings,
        }
        ini.write_text(
            f"[databases]\n* = host={self._server.hostname} port={self._server.port}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        account = ordinary_account()
        if account is not None:
            for path in (self._directory, users, ini):
                os.chown(path, *account)
        self._process = GuardedProcess(
            [self._program, ini], log=log, as_ordinary_user=account is not None, remove=self._directory
        )
        process = self._process
        wait_until(
            lambda: "process up" in log.read_text() or process.poll() is not None, timeout_s=_START_TIMEOUT_S
        )
        if process.poll() is None:
            return True
        process.stop(keep_directory=True)
        return False
