"""Run one command and stop it as soon as the process that started it has ended, for whatever reason.

A script of its own that needs only the standard library:

    guardian.py STOP_SIGNAL GRACE_SECONDS REMOVE ACCOUNT COMMAND...

Standard input is a pipe whose other end the starting process holds. When it closes (the starting process closed
it, exited or was killed), the command gets STOP_SIGNAL, GRACE_SECONDS later its whole process group gets
SIGKILL, and then the directory REMOVE is deleted (`-`: none). A byte `k` before the end means: stop the
command, but keep the directory. ACCOUNT is `uid:gid` to run the command under (`-`: unchanged), for servers
that refuse to run as root.

Standard output gets the command's process id as one line and, once the command has ended, its exit code as
another.

A pipe works on every platform, and unlike Linux' PR_SET_PDEATHSIG it does not depend on which thread started
the command. The guardian is the command's parent, so the process id it signals can't have been given to
another process.
"""

import contextlib
import os
import select
import signal
import sys
import time

_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_PR_SET_KEEPCAPS, _PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP = 8, 28, 4
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION_3 = 0x20080522


def _become(uid: int, gid: int) -> None:
    """Become an ordinary user that may still enter any directory.

    The programs and the data may be below a directory that only root can enter (/root, a private temporary
    directory). On Linux one capability is kept, the one to read regardless of permissions, instead of opening
    those directories to everybody or copying the programs elsewhere.
    """
    libc = None
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        # Otherwise access(), with which initdb looks for its programs, would ignore the capability.
        libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if libc is None:
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Containers usually have the second only.
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        bit = 1 << capability
        sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
        if libc.capset(header, sets) == 0:
            libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)
            return


def _start(command: list[str], account: str) -> int:
    """Fork, execute the command in a session of its own, and return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        if account != "-":
            uid, _, gid = account.partition(":")
            _become(int(uid), int(gid))
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


class _Child:
    """The running command; a signal makes the descriptor `wake` readable."""

    def __init__(self, process_id: int, wake: int) -> None:
        self._process_id = process_id
        self._wake = wake
        self.ended = False

    def reap(self) -> None:
        """Print the exit code if the command has ended."""
        if self.ended:
            return
        process_id, status = os.waitpid(self._process_id, os.WNOHANG)
        if process_id:
            self.ended = True
            with contextlib.suppress(OSError):
                os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())
                os.close(1)

    def stop(self, stop_signal: int, grace_s: float) -> None:
        """Stop the command and its process group."""
        self.reap()
        if not self.ended:
            os.kill(self._process_id, stop_signal)
            os.kill(self._process_id, signal.SIGCONT)
        limit = time.monotonic() + grace_s
        while not self.ended and (left := limit - time.monotonic()) > 0:
            if select.select([self._wake], [], [], left)[0]:
                os.read(self._wake, 64)
            self.reap()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process_id, signal.SIGKILL)
        while not self.ended:
            select.select([self._wake], [], [], 1)
            self.reap()


def main(arguments: list[str]) -> None:
    """Run the command; the arguments are those of the module's docstring."""
    stop_signal, grace_s, remove, account, *command = arguments
    wake, wake_end = os.pipe()
    os.set_blocking(wake_end, False)
    signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    process_id = _start(command, account)
    child = _Child(process_id, wake)
    os.write(1, f"{process_id}\n".encode())
    keep = False
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            asked_to_end = signal.SIGTERM in os.read(wake, 64)
            child.reap()
            if asked_to_end:
                break
        if 0 in ready:
            keep = os.read(0, 1) == b"k"
            break
    child.stop(int(stop_signal), float(grace_s))
    if remove != "-" and not keep:
        import shutil

        shutil.rmtree(remove, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
