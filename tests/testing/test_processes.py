"""Processes that never outlive the one that started them."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from servease_appt.testing.processes import GuardedProcess, ProcessError, run, wait_until
from tests.support.processes import alive, descendants

PYTHON = sys.executable
SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
FAMILY = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    + SLEEP
)

Start = Callable[..., GuardedProcess]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts Python code under a guardian and waits until it runs."""

    def start(code: str, **options: object) -> GuardedProcess:
        log = tmp_path / "log"
        process = GuardedProcess([PYTHON, "-c", code], log=log, **options)  # type: ignore[arg-type] # as given
        assert wait_until(lambda: "up" in log.read_text(), timeout_s=10)
        return process

    return start


def test_stop(start: Start, tmp_path: Path) -> None:
    """Stopping ends the command with its signal and deletes the directory that it was given."""
    directory = tmp_path / "directory"
    (directory / "below").mkdir(parents=True)
    process = start(SLEEP, remove=directory)

    process.stop()
    process.stop()

    assert process.poll() == -signal.SIGTERM
    assert not alive({process.pid})
    assert not directory.exists()


def test_stop_that_keeps_the_directory(start: Start, tmp_path: Path) -> None:
    """The directory stays if it is asked for, as a restart does."""
    process = start(SLEEP, remove=tmp_path / "kept")
    (tmp_path / "kept").mkdir()

    process.stop(keep_directory=True)

    assert (tmp_path / "kept").exists()


def test_a_command_that_does_not_want_to_end(start: Start) -> None:
    """After the grace time it is killed."""
    process = start(STUBBORN, grace_s=0.1)

    process.stop()

    assert process.poll() == -signal.SIGKILL


def test_a_frozen_command(start: Start) -> None:
    """A stopped process is woken up to take its signal."""
    process = start(SLEEP)
    process.send(signal.SIGSTOP)

    process.stop()

    assert process.poll() == -signal.SIGTERM


def test_the_commands_own_children(start: Start) -> None:
    """The command's whole process group ends with it."""
    process = start(FAMILY)
    family = descendants(process.pid)
    assert len(family) == 1

    process.stop()

    assert wait_until(lambda: not alive(family), timeout_s=5)


def test_exit_code(start: Start) -> None:
    """A command that ends by itself is noticed, with its exit code."""
    process = start("print('up'); raise SystemExit(7)")

    assert process.wait(10) == 7
    assert process.poll() == 7
    process.stop()


def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    """The error says which program, and why."""
    with pytest.raises(ProcessError, match="No such file or directory"):
        run(["/nowhere/at-all"], log=tmp_path / "log", timeout_s=10)


def test_a_run_that_takes_too_long(tmp_path: Path) -> None:
    """It is ended, and the error says so."""
    with pytest.raises(ProcessError, match=r"did not end within 0\.2 s"):
        run([PYTHON, "-c", SLEEP], log=tmp_path / "log", timeout_s=0.2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_parent_is_killed(number: signal.Signals, tmp_path: Path) -> None:
    """When the process that asked for the command is gone, so are the command, its children and its directory."""
    directory = tmp_path / "directory"
    directory.mkdir()
    code = f"""
import sys, time
from pathlib import Path
from servease_appt.testing.processes import GuardedProcess
log, directory = Path({str(tmp_path / "log")!r}), Path({str(directory)!r})
process = GuardedProcess([sys.executable, "-c", {FAMILY!r}], log=log, remove=directory)
while "up" not in log.read_text():
    pass
print(process.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    parent.stdout.readline()
    pids = descendants(parent.pid)
    assert len(pids) == 3

    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()

    assert wait_until(lambda: not alive(pids), timeout_s=10)
    assert wait_until(lambda: not directory.exists(), timeout_s=10)


@pytest.mark.parametrize("child_stops_it", [True, False])
def test_a_forked_child_is_not_the_parent(tmp_path: Path, child_stops_it: bool) -> None:
    """A forked child can neither stop the command nor keep it alive by living longer than its parent."""
    code = f"""
import os, sys
from pathlib import Path
from servease_appt.testing.processes import GuardedProcess
process = GuardedProcess([sys.executable, "-c", {SLEEP!r}], log=Path({str(tmp_path / "log")!r}))
tried, parent_is_done = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    if {child_stops_it}:
        process.stop()
    os.write(tried[1], b"x")
    os.close(parent_is_done[1])
    os.read(parent_is_done[0], 1)
    os._exit(0)
os.read(tried[0], 1)
print(process.wait(0.2), flush=True)
process.stop()
print(process.poll(), os.waitpid(child, os.WNOHANG), flush=True)
os.close(parent_is_done[1])
print(os.waitpid(child, 0)[1])
"""
    ended = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False, timeout=30)

    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ["None", f"{-signal.SIGTERM} (0, 0)", "0"]
