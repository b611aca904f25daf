"""Valkey and Sentinel on hosts of a network, and the service with a worker on each host."""

from __future__ import annotations

import abc
import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from faults.fleet.namespaces import Host, Network
from faults.http_client import Slot
from faults.testbed import LOOK_TIMEOUT_S, L2Reader, Testbed
from servease_appt.testing.processes import GuardedProcess, wait_until
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey, valkey_binary
from tests.support.gunicorn import Gunicorn

HOSTS = 3
PORT = 6379
SENTINEL_PORT = 26379
SERVICE = "main"
_START_S = 30.0


class HostValkey(EmbeddedValkey):
    """A Valkey server on a host."""

    def __init__(self, host: Host, port: int = PORT, options: Sequence[str] = ()) -> None:
        super().__init__(options=options)
        self.host = host
        self.port = port

    def url(self, database: int = 1) -> str:
        """Return the `redis://` URL of one of its databases."""
        return f"redis://{self.host.address}:{self.port}/{database}"

    def do(self, *command: str | int) -> Any:
        """Send a command."""
        with client_of(self.host, self.port) as client:
            untyped: Any = client
            return untyped.execute_command(*command)

    def _command(self) -> list[str | Path]:
        fixed = ["--bind", self.host.address, "--port", str(self.port), "--save", "", "--appendonly", "no"]
        return [*self.host.within, valkey_binary(), *fixed, "--protected-mode", "no", *self._options]


def client_of(host: Host, port: int, **options: Any) -> redis.Redis:
    """Return a client that fails fast."""
    return redis.Redis(
        host.address,
        port,
        socket_timeout=LOOK_TIMEOUT_S,
        socket_connect_timeout=LOOK_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        **options,
    )


class SentinelHosts:
    """A Valkey server and a sentinel on each host; the first server is the primary. A context manager."""

    def __init__(self, hosts: Sequence[Host], directory: Path) -> None:
        self._hosts = hosts
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self.servers: list[HostValkey] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            options = ["--repl-diskless-sync-delay", "0"]
            for host in self._hosts:
                of = ["--replicaof", self._hosts[0].address, str(PORT)] if self.servers else []
                self.servers.append(stack.enter_context(HostValkey(host, options=[*options, *of])))
            for number in range(len(self._hosts)):
                self._start_sentinel(stack, number)
            assert wait_until(self.is_settled, timeout_s=_START_S), (
                "the sentinels know no primary with replicas"
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def url(self) -> str:
        """Return the URL that names the sentinels."""
        hosts = ",".join(f"{host.address}:{SENTINEL_PORT}" for host in self._hosts)
        return f"redis+sentinel://{hosts}/{SERVICE}/1"

    def primary(self) -> HostValkey:
        """Return the primary of the newest configuration that any sentinel has. Raises redis-py's errors."""
        votes = []
        for number in range(len(self._hosts)):
            named = self._ask(number, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            votes.append((int(self._state(number)["config-epoch"]), named[0].decode()))
        address = max(votes)[1]
        return next(server for server in self.servers if server.host.address == address)

    def is_settled(self) -> bool:
        """Return whether all sentinels know one primary and all others replicate from it."""
        try:
            primary = self.primary()
            links = [server.do("INFO", "replication") for server in self.servers if server is not primary]
            states = [self._state(number) for number in range(len(self._hosts))]
        except redis.RedisError:
            return False
        linked = all(
            link["role"] == "slave"
            and link["master_host"] == primary.host.address
            and link["master_link_status"] == "up"
            for link in links
        )
        others = str(len(self._hosts) - 1)
        return linked and all(
            state["flags"] == "master"
            and state["ip"] == primary.host.address
            and state["num-other-sentinels"] == state["num-slaves"] == others
            for state in states
        )

    def _state(self, number: int) -> dict[str, str]:
        answer = self._ask(number, "SENTINEL", "MASTER", SERVICE)
        if isinstance(answer, dict):
            return {_text(name): _text(value) for name, value in answer.items()}
        return dict(zip(map(_text, answer[::2]), map(_text, answer[1::2]), strict=True))

    def _ask(self, number: int, *command: str) -> Any:
        with client_of(self._hosts[number], SENTINEL_PORT) as client:
            untyped: Any = client
            return untyped.execute_command(*command)

    def _start_sentinel(self, stack: contextlib.ExitStack, number: int) -> None:
        own, host = self._directory / f"sentinel-{number}", self._hosts[number]
        own.mkdir()
        lines = [
            f"port {SENTINEL_PORT}",
            f"bind {host.address}",
            "protected-mode no",
            f"sentinel monitor {SERVICE} {self._hosts[0].address} {PORT} 2",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 2000",  # the next failover may follow after twice this time
        ]
        (own / "conf").write_text("\n".join(lines) + "\n")
        command: list[str | Path] = [*host.within, valkey_binary(), str(own / "conf"), "--sentinel"]
        process = GuardedProcess(command, log=own / "log", directory=own, stop_signal=signal.SIGKILL)
        stack.callback(process.stop)


def _text(value: Any) -> str:
    if isinstance(value, set):
        return ",".join(sorted(map(_text, value)))
    return value.decode() if isinstance(value, bytes) else str(value)


class NetworkTestbed(Testbed, abc.ABC):
    """The service on three hosts with a worker each; PostgreSQL and the three services are on none of them."""

    look_pause_s = 0.1
    network: Network

    def _start_l2(self, stack: contextlib.ExitStack) -> None:
        self.network = stack.enter_context(Network(HOSTS, self.directory))
        _let_in(self.postgres, "10.77.0.0/16")
        self._start_servers(stack)

    @abc.abstractmethod
    def _start_servers(self, stack: contextlib.ExitStack) -> None:
        """Start the servers on the hosts."""

    def _start_gunicorn(self) -> list[Gunicorn]:
        each = self.workers // HOSTS
        with contextlib.ExitStack() as stack:
            started = [
                stack.enter_context(self._gunicorn(each, address=host.address, within=host.within))
                for host in self.network.hosts
            ]
            stack.pop_all()
        return started

    def slot_to(self, host: Host) -> Slot:
        """Return a new slot for a connection to the workers of a host."""
        gunicorn = next(one for one in self._serving if one.address == host.address)
        return Slot(gunicorn.port, self.token, host=host.address)


class HostsTestbed(NetworkTestbed):
    """The service with a primary, two replicas and three sentinels, one of each on each host."""

    def _start_servers(self, stack: contextlib.ExitStack) -> None:
        self.setup = stack.enter_context(SentinelHosts(self.network.hosts, self.directory))
        self.redis_url = self.setup.url()

    def l2_reader(self) -> L2Reader:
        """Return a reader of the primary that the sentinels name."""
        return _PrimaryReader(self.setup)


def _let_in(postgres: EmbeddedPostgres, network: str) -> None:
    import psycopg2

    with (postgres.directory / "data" / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {network} scram-sha-256\n")
    with contextlib.closing(psycopg2.connect(postgres.url())) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_reload_conf()")


class _PrimaryReader:
    """Reads the primary that the sentinels name at that moment."""

    def __init__(self, setup: SentinelHosts) -> None:
        self._setup = setup
        self._clients: dict[str, Any] = {}

    def mget(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Return the values. Raises redis-py's errors."""
        host = self._setup.primary().host
        if host.address not in self._clients:
            self._clients[host.address] = client_of(host, PORT, db=1)
        values: Sequence[bytes | None] = self._clients[host.address].mget(names)
        return values

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()
