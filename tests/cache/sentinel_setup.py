"""A primary, a replica and three sentinels, or a single sentinel, as processes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from servease_appt.testing.processes import GuardedProcess, wait_until
from servease_appt.testing.servers import EmbeddedValkey, free_port, valkey_binary

SERVICE = "main"
_START_S = 30.0


class SentinelSetup:
    """One primary and one replica under three sentinels. A context manager that stops them."""

    def __init__(self, directory: Path, *, password: str = "", sentinel_password: str = "") -> None:
        self._directory = directory
        self._password = password
        self._sentinel_password = sentinel_password
        self._stack = contextlib.ExitStack()
        self.servers: list[EmbeddedValkey] = []
        self.sentinel_ports: list[int] = []
        self.sentinels: list[GuardedProcess] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def url(self) -> str:
        """The URL that names the sentinels, with both passwords."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        credentials = f":{self._password}@" if self._password else ""
        options = f"?sentinel_password={self._sentinel_password}" if self._sentinel_password else ""
        return f"redis+sentinel://{credentials}{hosts}/{SERVICE}/1{options}"

    def ask(self, number: int, *command: str) -> Any:
        """Send a command to one sentinel."""
        port = self.sentinel_ports[number]
        with redis.Redis(port=port, password=self._sentinel_password or None) as client:
            untyped: Any = client
            return untyped.execute_command(*command)

    def primary_port(self) -> int:
        """The primary's port, as the first sentinel names it."""
        return int(self.ask(0, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def _start(self, stack: contextlib.ExitStack) -> None:
        secret = ["--requirepass", self._password, "--masterauth", self._password] if self._password else []
        options = ["--repl-diskless-sync-delay", "0", *secret]
        primary = stack.enter_context(EmbeddedValkey(options=options))
        replica = stack.enter_context(
            EmbeddedValkey(options=[*options, "--replicaof", "127.0.0.1", str(primary.port)])
        )
        self.servers = [primary, replica]
        self.sentinel_ports = [free_port() for _ in range(3)]
        for number in range(3):
            self._start_sentinel(stack, number)
        for number in range(3):
            assert wait_until(partial(self._knows_all, number), timeout_s=_START_S), f"sentinel {number}"

    def _start_sentinel(self, stack: contextlib.ExitStack, number: int) -> None:
        own = self._directory / f"sentinel-{number}"
        own.mkdir()
        primary, replica = (server.port for server in self.servers)
        others = [other for other in range(3) if other != number]
        # Each knows the others from the start: they announce themselves every 2 s only.
        lines = [
            f"port {self.sentinel_ports[number]}",
            "bind 127.0.0.1",
            f"sentinel myid {number:040x}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 5000",
            *([f"sentinel auth-pass {SERVICE} {self._password}"] if self._password else []),
            *([f"requirepass {self._sentinel_password}"] if self._sentinel_password else []),
            *([f"sentinel sentinel-pass {self._sentinel_password}"] if self._sentinel_password else []),
            f"sentinel known-replica {SERVICE} 127.0.0.1 {replica}",
            *(
                f"sentinel known-sentinel {SERVICE} 127.0.0.1 {self.sentinel_ports[other]} {other:040x}"
                for other in others
            ),
        ]
        (own / "conf").write_text("\n".join(lines) + "\n")
        command: list[str | Path] = [valkey_binary(), str(own / "conf"), "--sentinel"]
        process = GuardedProcess(command, log=own / "log", directory=own, stop_signal=signal.SIGKILL)
        stack.callback(process.stop)
        self.sentinels.append(process)

    def _knows_all(self, number: int) -> bool:
        try:
            others = self.ask(number, "SENTINEL", "SENTINELS", SERVICE)
            replicas = self.ask(number, "SENTINEL", "REPLICAS", SERVICE)
            self.ask(number, "SENTINEL", "CKQUORUM", SERVICE)  # an error unless the others answer
        except redis.RedisError:
            return False
        links = [found.get(b"master-link-status") for found in replicas]
        return len(others) == 2 and links == [b"ok"]


@contextlib.contextmanager
def sentinel_of(host: str, primary: int, directory: Path) -> Iterator[int]:
    """Yield the port of a single sentinel at an address, which watches over the primary at another port of it."""
    port = free_port()
    settings = directory / "sentinel.conf"
    settings.write_text(f"port {port}\nbind {host}\nsentinel monitor {SERVICE} {host} {primary} 1\n")
    process = GuardedProcess(
        [valkey_binary(), str(settings), "--sentinel"], log=directory / "log", directory=directory
    )
    try:
        assert wait_until(partial(_answers, host, port), timeout_s=_START_S), "the sentinel has not started"
        yield port
    finally:
        process.stop()


def _answers(host: str, port: int) -> bool:
    with redis.Redis(host, port) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
