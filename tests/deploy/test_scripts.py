"""The scripts that start Redis and Sentinel, and the SQL of the roles, on real servers."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError
from redis.sentinel import Sentinel

from servease_appt.cache import connect
from servease_appt.db.engine import Database
from servease_appt.db.migrate import upgrade
from servease_appt.testing.processes import GuardedProcess, wait_until
from servease_appt.testing.servers import free_port, postgres_binary, valkey_binary
from tests.deploy.files import ROOT

PASSWORDS = {
    f"REDIS_{who}PASSWORD": f"secret{number}"
    for number, who in enumerate(("ADMIN_", "", "REPLICATION_", "SENTINEL_"))
}
Start = Callable[..., GuardedProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a script of deploy/: `start(script, name, *arguments, **environment)`."""
    running: list[GuardedProcess] = []

    def run(script: str, name: str, *arguments: str, **environment: str) -> GuardedProcess:
        folder = tmp_path / name
        folder.mkdir()
        own = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(folder),
            "USERS_FILE": str(ROOT / "deploy/users.acl"),
            "REDIS_SERVER": str(valkey_binary()),
        }
        process = GuardedProcess(
            ["/bin/sh", str(ROOT / "deploy" / script), *arguments],
            log=folder / "log",
            directory=folder,
            environment={**own, **environment},
            stop_signal=signal.SIGKILL,
        )
        running.append(process)
        return process

    yield run
    for process in reversed(running):
        process.stop()


def url_of(user: str, variable: str, port: int) -> str:
    """Return the URL of a user whose password is in a variable."""
    return f"redis://{user}:{PASSWORDS[variable]}@127.0.0.1:{port}/1"


def answers(url: str) -> bool:
    """Return whether a server lets this user in."""
    with Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


def test_users_with_a_password_get_in_and_others_do_not(start: Start) -> None:
    """Each by its own variable; one without a variable stays locked out, as does everybody without a user."""
    port = free_port()
    given = {name: PASSWORDS[name] for name in ("REDIS_ADMIN_PASSWORD", "REDIS_PASSWORD")}
    start("start-redis.sh", "redis", "--bind", "127.0.0.1", "--port", str(port), **given)
    assert wait_until(lambda: answers(url_of("default", "REDIS_ADMIN_PASSWORD", port)), timeout_s=20)
    assert answers(url_of("appointment_service", "REDIS_PASSWORD", port))
    for refused in (f"redis://127.0.0.1:{port}", f"redis://neighbour:@127.0.0.1:{port}"):
        with Redis.from_url(refused) as client, pytest.raises(AuthenticationError):
            client.ping()


@pytest.mark.parametrize("password", ["with blank", "a/b", "$(id)", "a>b", "ä"])
def test_a_password_that_would_be_more_than_one_stops_the_start(start: Start, password: str) -> None:
    """It would become part of a file and of a URL."""
    process = start("start-redis.sh", "redis", REDIS_PASSWORD=password)
    assert process.wait(20) == 1
    assert "REDIS_PASSWORD can have letters and digits only" in process.log_tail()


def test_sentinel_and_replica_work_with_their_users(start: Start) -> None:
    """The replica follows, the Sentinel sees both, and a failover leads the service's user to the new primary."""
    ports = [free_port() for _ in range(3)]
    for number, port in enumerate(ports[:2]):
        follow = ["--replicaof", "127.0.0.1", str(ports[0])] if number else []
        listen = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--repl-diskless-sync-delay", "0"]
        start("start-redis.sh", f"redis{number}", *listen, *follow, **PASSWORDS)
    sentinel_settings = {
        "SENTINEL_PORT": str(ports[2]),
        "SENTINEL_QUORUM": "1",
        "PRIMARY_HOST": "127.0.0.1",
        "PRIMARY_PORT": str(ports[0]),
        "REDIS_SENTINEL_PASSWORD": PASSWORDS["REDIS_SENTINEL_PASSWORD"],
    }
    primary = url_of("default", "REDIS_ADMIN_PASSWORD", ports[0])
    # Before the Sentinel asks for the first time: it asks again ten seconds later.
    assert wait_until(lambda: _has_replica(primary), timeout_s=30)
    start("start-sentinel.sh", "sentinel", **sentinel_settings)
    watching = Sentinel([("127.0.0.1", ports[2])])  # type: ignore[no-untyped-call]
    try:
        assert wait_until(lambda: _replicas(watching) == [ports[1]], timeout_s=30)
        url = f"redis+sentinel://appointment_service:secret1@127.0.0.1:{ports[2]}/appointments/1"
        with connect(url) as client:
            client.set("appointment_service:customer_1", "x", px=60_000)
            assert wait_until(lambda: _fails_over(watching), timeout_s=30)
            assert wait_until(lambda: _primary(watching) == ports[1], timeout_s=30)
        with connect(url) as client:
            assert wait_until(lambda: _stores(client), timeout_s=30)
    finally:
        for sentinel in watching.sentinels:
            sentinel.close()


def _has_replica(primary: str) -> bool:
    with Redis.from_url(primary) as client:
        try:
            return "online" in str(client.info("replication").get("slave0"))
        except RedisError:
            return False


def _replicas(sentinel: Sentinel) -> list[int]:
    try:
        return [port for _, port in sentinel.discover_slaves("appointments")]  # type: ignore[no-untyped-call]
    except RedisError:
        return []


def _fails_over(sentinel: Sentinel) -> bool:
    try:
        return bool(sentinel.sentinels[0].sentinel_failover("appointments"))
    except RedisError:  # it has not seen the replica's state yet
        return False


def _primary(sentinel: Sentinel) -> int | None:
    try:
        port: int = sentinel.discover_master("appointments")[1]  # type: ignore[no-untyped-call]
    except RedisError:  # none, in the middle of a failover
        return None
    return port


def _stores(client: "Redis") -> bool:
    try:
        return bool(client.set("appointment_service:customer_2", "y", px=60_000))
    except RedisError:
        return False


def psql(url: str, user: str, password: str, file: str, **environment: str) -> None:
    """Run a file of deploy/postgres as compose does."""
    parts = urlsplit(url)
    command = [str(postgres_binary("psql")), "-h", str(parts.hostname), "-p", str(parts.port), "-U", user]
    done = subprocess.run(
        [*command, "-d", parts.path[1:], "-f", str(ROOT / "deploy/postgres" / file)],
        env={"PATH": os.environ["PATH"], "PGPASSWORD": password, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


def test_the_roles_can_be_made_again_and_serve(postgres_url: str) -> None:
    """For a database that the superuser has used until now as well: its tables are given to the owner."""
    parts = urlsplit(postgres_url)
    admin_password = parts.password or ""
    passwords = {"DB_OWNER_PASSWORD": "owner1", "DB_PASSWORD": "service1"}
    upgrade(postgres_url)
    try:
        for _ in range(2):
            psql(postgres_url, "postgres", admin_password, "roles.sql", **passwords)
            owner = postgres_url.replace(f"postgres:{admin_password}@", "servease_owner:owner1@")
            upgrade(owner)
            psql(postgres_url, "servease_owner", "owner1", "grants.sql")
        database = Database(owner.replace("servease_owner:owner1@", "servease_service:service1@"))
        database.ping()
        database.close()
    finally:
        admin = Database(postgres_url)
        with admin.reading() as connection:
            connection.exec_driver_sql("DROP OWNED BY servease_owner, servease_service")
            connection.exec_driver_sql("DROP ROLE servease_owner, servease_service")
        admin.close()


def test_the_grants_are_those_of_the_guide() -> None:
    """Which tests/db/test_roles.py tries with every use of the database."""
    guide = (ROOT / "docs/database.md").read_text()
    _, grants = re.findall(r"```sql\n(.*?)```", guide, re.DOTALL)
    file = (ROOT / "deploy/postgres/grants.sql").read_text()
    assert [line for line in file.splitlines() if line.startswith("GRANT")] == grants.splitlines()
