"""Hosts in network namespaces: packets are lost in one direction or both, and nothing outlives a run."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faults.fleet import namespaces
from servease_appt.testing.processes import wait_until

LIMIT_S = 10.0
RUN = """
import subprocess, sys
from pathlib import Path
from faults.fleet.namespaces import Network
from servease_appt.testing.processes import GuardedProcess, wait_until

LISTEN = "import socket, sys; s = socket.create_server((sys.argv[1], 7)); [s.accept() for _ in range(1000)]"
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 7), 0.3)"
directory = Path(sys.argv[1])

def python(host, script, address):
    return [*host.within, sys.executable, "-ISc", script, address]

def reaches(source, target):
    command = python(source, CONNECT, target.address)
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0

with Network(3, directory) as network:
    a, b, c = network.hosts
    listening = [GuardedProcess(python(h, LISTEN, h.address), log=directory / "log") for h in (a, b)]
    assert wait_until(lambda: reaches(c, a) and reaches(c, b), timeout_s=10)
    network.lose(a, b)
    assert not reaches(a, b) and not reaches(b, a) and reaches(c, a) and reaches(c, b)
    network.heal()
    assert reaches(a, b)
    network.cut_off(a, ports="7")
    assert not reaches(a, b) and not reaches(c, a) and reaches(c, b)
    print(*(keeper.pid for keeper in network._keepers), *(one.pid for one in listening), flush=True)
    sys.stdin.read()
"""

NO_NAMESPACES = namespaces.why_not()


@pytest.mark.skipif(NO_NAMESPACES is not None, reason=f"no network namespaces: {NO_NAMESPACES}")
def test_packets_are_lost_between_hosts_and_nothing_outlives_a_kill(tmp_path: Path) -> None:
    """The run is killed by SIGKILL. Its hosts end with it, and the machine's own network never changed."""
    before = _links()
    unshare = shutil.which("unshare")
    assert unshare is not None
    run = subprocess.Popen(
        [unshare, "--net", "--", sys.executable, "-c", RUN, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()]
        run.send_signal(signal.SIGKILL)
    assert len(pids) == 5
    assert wait_until(lambda: not any(map(_runs, pids)), timeout_s=LIMIT_S)
    assert _links() == before


def test_what_a_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a machine runs the other faults."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert namespaces.why_not() == "there is no ip, nsenter, sh, sleep, unshare"


def _links() -> set[Path]:
    return set(Path("/sys/class/net").iterdir())


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
