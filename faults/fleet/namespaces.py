"""Hosts as network namespaces of Linux, behind a router that can lose packets between any two of them.

The router is the namespace of this process, which `enter` makes. So nothing of the machine's own network is
changed, and nothing is left however a run ends: a namespace and its links go with its last process, and the
guardians end all processes of a run. Packets are lost by routing rules, without an answer to the sender, as in a
broken network. For delays and random losses `tc netem` would be needed, which not every kernel has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from servease_appt.testing.processes import GuardedProcess, ProcessError, wait_until

_INSIDE = "FAULTS_NAMESPACE"
_START_S = 10.0
_NEEDED = ("ip", "nsenter", "sh", "sleep", "unshare")
_TRIAL = (
    "ip link add trial0 type veth peer name trial1"
    " && ip rule add from 10.77.1.0/24 to 10.77.2.0/24 ipproto tcp dport 1 blackhole"
    " && echo 1 > /proc/sys/net/ipv4/ip_forward"
)


def why_not() -> str | None:
    """Return why this machine lets this process make no such network; None: it does."""
    missing = [program for program in _NEEDED if shutil.which(program) is None]
    if missing:
        return f"there is no {', '.join(missing)}"
    trial = subprocess.run(
        [_path("unshare"), "--net", "sh", "-c", _TRIAL], capture_output=True, text=True, check=False
    )
    if trial.returncode == 0:
        return None
    return (trial.stderr.strip().splitlines() or [f"exit code {trial.returncode}"])[0]


def enter(module: str) -> None:
    """Run `python -m module` again with the same arguments in a namespace of its own, or return if it is there."""
    if os.environ.get(_INSIDE) == str(os.getpid()):
        _run(_path("ip"), "link", "set", "lo", "up")
        return
    os.environ[_INSIDE] = str(os.getpid())  # which does not change
    command = [_path("unshare"), "--net", "--", sys.executable, "-m", module, *sys.argv[1:]]
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


@dataclass(frozen=True)
class Host:
    """One host.

    Attributes:
        address: its only address.
        within: a command that runs the command after it on this host.
    """

    address: str
    within: tuple[str, ...]


class Network:
    """Hosts that reach each other, and as 127.0.0.1 the loopback of the router. A context manager.

    Args:
        count: the number of hosts.
        directory: for the logs of the processes that keep the namespaces.
    """

    def __init__(self, count: int, directory: Path) -> None:
        self._count = count
        self._directory = directory
        self._keepers: list[GuardedProcess] = []
        self._rules: list[tuple[str, ...]] = []
        self.hosts: list[Host] = []

    def __enter__(self) -> Self:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        try:
            self.hosts = [self._add(number) for number in range(1, self._count + 1)]
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def lose(self, source: Host, target: Host, *, ports: str = "") -> None:
        """Lose all packets from one host to another, or those of TCP connections to ports (`1-9`) of either."""
        ends = [("ipproto", "tcp", end, ports) for end in ("dport", "sport")] if ports else [()]
        for end in ends:
            rule = ("from", source.address, "to", target.address, *end, "blackhole")
            _run(_path("ip"), "rule", "add", *rule)
            self._rules.append(rule)

    def cut_off(self, host: Host, *, ports: str = "") -> None:
        """Lose all packets between a host and each other host, or those of TCP connections to some ports."""
        for other in self.hosts:
            if other is not host:
                self.lose(host, other, ports=ports)
                self.lose(other, host, ports=ports)

    def heal(self) -> None:
        """Lose no packets any more."""
        while self._rules:
            _run(_path("ip"), "rule", "del", *self._rules.pop())

    def _add(self, number: int) -> Host:
        keeper = GuardedProcess(
            [_path("unshare"), "--net", "--", _path("sleep"), "infinity"],
            log=self._directory / f"host-{number}.log",
        )
        self._keepers.append(keeper)
        namespace = Path(f"/proc/{keeper.pid}/ns/net")
        own = Path("/proc/self/ns/net").readlink()
        if not wait_until(lambda: namespace.readlink() != own, timeout_s=_START_S):
            raise ProcessError(f"host {number} did not start:\n{keeper.log_tail()}")
        link, router, address = f"host{number}", f"10.77.{number}.1", f"10.77.{number}.2"
        within = (_path("nsenter"), f"--net={namespace}", "--")
        _run(
            _path("ip"), "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(keeper.pid)
        )
        _run(_path("ip"), "address", "add", f"{router}/24", "dev", link)
        _run(_path("ip"), "link", "set", link, "up")
        Path(f"/proc/sys/net/ipv4/conf/{link}/route_localnet").write_text("1")
        # The host's loopback serves its own address only: 127.0.0.1 is where PostgreSQL and the services run.
        commands = (
            "ip link set lo up",
            "ip address del 127.0.0.1/8 dev lo",
            f"ip address add {address}/24 dev eth0",
            "ip link set eth0 up",
            "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet",
            f"ip route add default via {router}",
            f"ip route add 127.0.0.1/32 via {router}",
        )
        _run(*within, _path("sh"), "-c", " && ".join(commands))
        return Host(address, within)

    def _stop(self) -> None:
        self.heal()
        for keeper in self._keepers:
            keeper.stop()


def _path(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise ProcessError(f"there is no {program}")
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ProcessError(f"{' '.join(command)} failed: {done.stderr.strip()}")
