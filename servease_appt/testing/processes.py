"""Child processes that never outlive this one."""

import contextlib
import os
import pwd
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

_GUARDIAN = Path(__file__).with_name("guardian.py")


class ProcessError(Exception):
    """A process did not start or failed. The text names it, gives the reason and quotes its log."""


class GuardedProcess:
    """A command under a guardian (see `guardian.py`). It ends when `stop` is called or when this process ends.

    Args:
        command: the program, as an absolute path, and its arguments.
        log: file that the command's output is appended to.
        directory: the command's working directory; None: that of this process.
        environment: the command's whole environment; None: a copy of this process's own.
        stop_signal: the signal that asks the command to end.
        grace_s: seconds from that signal to SIGKILL for the command's process group.
        remove: directory to delete after the command was stopped or this process has ended.
        as_ordinary_user: run it under another account if this process is root.

    Not thread-safe. In a forked child it does nothing: the child neither stops the command nor keeps it alive.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stop_signal: int = signal.SIGTERM,
        grace_s: float = 10.0,
        remove: Path | None = None,
        as_ordinary_user: bool = False,
    ) -> None:
        account = ordinary_account() if as_ordinary_user else None
        arguments = [
            str(int(stop_signal)),
            str(grace_s),
            str(remove or "-"),
            "-" if account is None else f"{account[0]}:{account[1]}",
            *map(str, command),
        ]
        self.log = log
        self._exit_code: int | None = None
        with log.open("ab") as output:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARDIAN), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=directory,
                env=environment,
                bufsize=0,
                start_new_session=True,
            )
        self._lifeline = cast("IO[bytes]", self._guardian.stdin)
        self._reports = cast("IO[bytes]", self._guardian.stdout)
        _alive.add(self)
        self.pid = int(self._reports.readline() or 0)
        """Return the process id of the command itself."""

    def wait(self, timeout_s: float) -> int | None:
        """Wait until the command has ended by itself.

        Returns:
            Its exit code, minus the signal's number if a signal killed it; None if it still runs after
            `timeout_s` seconds.
        """
        if self._exit_code is None and select.select([self._reports], [], [], timeout_s)[0]:
            self._exit_code = int(self._reports.readline() or -signal.SIGKILL)
        return self._exit_code

    def poll(self) -> int | None:
        """Return the exit code if the command has ended, else None, without waiting."""
        return self.wait(0)

    def send(self, number: int) -> None:
        """Send a signal to the command; do nothing if it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, *, keep_directory: bool = False) -> None:
        """Stop the command, wait for its end, and delete the directory `remove` unless it is to be kept.

        Idempotent.
        """
        if self._lifeline.closed:
            return
        with contextlib.suppress(BrokenPipeError):
            if keep_directory:
                self._lifeline.write(b"k")
        self._lifeline.close()
        self._guardian.wait()
        self.poll()
        self._reports.close()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the command's output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _forget(self) -> None:
        self._lifeline.close()
        self._reports.close()
        self._exit_code = self._guardian.returncode = 0


_alive: weakref.WeakSet[GuardedProcess] = weakref.WeakSet()


def _in_forked_child() -> None:
    # A child that kept the pipe open would keep the commands alive after the end of their parent.
    for process in list(_alive):
        process._forget()  # noqa: SLF001 - its own class


os.register_at_fork(after_in_child=_in_forked_child)


def run(
    command: Sequence[str | Path],
    *,
    log: Path,
    timeout_s: float,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    as_ordinary_user: bool = False,
) -> None:
    """Run a command to its end under a guardian.

    Raises:
        ProcessError: its exit code was not 0, or it did not end within `timeout_s` seconds.
    """
    process = GuardedProcess(
        command, log=log, directory=directory, environment=environment, as_ordinary_user=as_ordinary_user
    )
    try:
        code = process.wait(timeout_s)
    finally:
        process.stop()
    if code != 0:
        outcome = f"did not end within {timeout_s:g} s" if code is None else f"ended with code {code}"
        raise ProcessError(f"{Path(command[0]).name} {outcome}:\n{process.log_tail()}")


def wait_until(done: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.005) -> bool:
    """Call `done` repeatedly until it returns true. Returns False if it did not within `timeout_s` seconds."""
    limit = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > limit:
            return False
        time.sleep(interval_s)
    return True


def ordinary_account() -> tuple[int, int] | None:
    """Return user and group id for servers that refuse to run as root; None if this process is not root.

    Raises:
        ProcessError: this process is root and the machine has no other user.
    """
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid
    for user in pwd.getpwall():
        if user.pw_uid != 0:
            return user.pw_uid, user.pw_gid
    raise ProcessError("PostgreSQL refuses to run as root, and this machine has no other user to run it as")
