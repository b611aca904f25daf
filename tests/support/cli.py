"""Run `flask --app wsgi cache …`, in this process or in a process of its own if it streams or is interrupted."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from click.testing import Result
from flask import Flask

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from tests.support.processes import bare_environment

REPOSITORY = Path(__file__).resolve().parents[2]


class Cli:
    """The commands, for an application with these settings. A context manager."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.app: Flask = create_app(Settings.from_mapping(environment))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.app.extensions[EXTENSION].close()

    def run(self, *words: str, exit_code: int = 0) -> Result:
        """Run `cache WORDS` in this process, without a terminal; it has to end with this exit code."""
        result = self.app.test_cli_runner().invoke(args=["cache", *words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exit_code, result.output
        return result

    def json(self, *words: str, exit_code: int = 0) -> Any:
        """Run with `--json` and parse what it prints."""
        return json.loads(self.run(*words, "--json", exit_code=exit_code).stdout)

    def process(self, *words: str) -> "CliProcess":
        """Start `flask --app wsgi cache WORDS`."""
        return CliProcess(words, self.environment)


class CliProcess:
    """A running command, whose output is read line by line. A context manager that stops it.

    `code` is the folder with the package and wsgi.py.
    """

    def __init__(
        self, words: tuple[str, ...], environment: Mapping[str, str], *, code: Path = REPOSITORY
    ) -> None:
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "cache", *words]
        self.process = subprocess.Popen(
            command,
            cwd=code,
            env={**bare_environment(), "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.seen: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        streams = [stream for stream in (self.process.stdout, self.process.stderr) if stream]
        self._threads = [threading.Thread(target=self._read, args=(stream,)) for stream in streams]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._lines.put(line.rstrip("\n"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()

    def wait_for(self, wanted: Callable[[str], bool] | str, timeout_s: float = 60.0) -> str:
        """Return the first line that contains a text, among those not returned or skipped yet."""
        matches = wanted if callable(wanted) else lambda line: wanted in line
        until_s = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, until_s - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{wanted} has not come; seen: {self.seen}") from None
            self.seen.append(line)
            if matches(line):
                return line

    def wait_for_event(self, **fields: str) -> dict[str, Any]:
        """Return the next JSON line with these fields; events in between are skipped."""

        def matches(line: str) -> bool:
            event = json.loads(line) if line.startswith("{") else {}
            return all(event.get(name) == value for name, value in fields.items())

        event: dict[str, Any] = json.loads(self.wait_for(matches))
        return event

    def interrupt(self) -> int:
        """Send Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def end(self) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(60)

    def rest(self) -> str:
        """Return the rest of its output, after its end."""
        for thread in self._threads:
            thread.join()
        while not self._lines.empty():
            self.seen.append(self._lines.get())
        return "\n".join(self.seen)
