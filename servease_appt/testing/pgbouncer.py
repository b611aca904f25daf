"""A PgBouncer in transaction mode for tests and benchmarks, from the system: there is no wheel of it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from servease_appt.testing.processes import ProcessError
from servease_appt.testing.servers import HOST, EmbeddedServer, give_to_ordinary_account

PROGRAM: Final = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
"""The path of PgBouncer; None if it is not installed."""


class EmbeddedPgBouncer(EmbeddedServer):
    """PgBouncer in front of a PostgreSQL server, otherwise with its default configuration. A context manager."""

    name = "PgBouncer"
    as_ordinary_user = True

    def __init__(self, url: str, settings: Mapping[str, str] | None = None) -> None:
        """Prepare a pooler; entering the context starts it.

        Args:
            url: the `postgresql://` URL of a database of the server, with user and password.
            settings: further settings of the section `[pgbouncer]`.
        """
        if PROGRAM is None:
            raise ProcessError("pgbouncer is not installed (Debian: apt install pgbouncer)")
        super().__init__()
        self._program = PROGRAM
        self._server = urlsplit(url)
        self._settings = dict(settings or {})

    @property
    def url(self) -> str:
        """Return the URL of the same database through the pooler."""
        user = self._server.netloc.rpartition("@")[0]
        return self._server._replace(netloc=f"{user}@{HOST}:{self.port}").geturl()

    def _command(self) -> list[str | Path]:
        users, ini = self.directory / "users", self.directory / "ini"
        users.write_text(f'"{self._server.username}" "{unquote(self._server.password or "")}"\n')
        settings = {
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
            + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        give_to_ordinary_account(self.directory, users, ini)
        return [self._program, ini]

    def _is_ready(self) -> bool:
        return "process up" in self.log.read_text()
