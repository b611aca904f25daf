"""Start and control fake upstream services (see `fake_service.py`)."""

import contextlib
import http.client
import json
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from servease_appt.testing.processes import GuardedProcess, ProcessError, wait_until

_SCRIPT = Path(__file__).with_name("fake_service.py")
KINDS = ("customer", "employee", "vehicle")
_START_TIMEOUT_S = 30.0


class FakeService:
    """One fake service as a process of its own.

    Args:
        kind: `customer`, `employee` or `vehicle`.
        directory: for its log and its entries; has to exist.
        port: 0 picks a free one, which a restart keeps.
        delay_s: seconds that each answer takes.
    """

    def __init__(
        self,
        kind: str,
        directory: Path,
        *,
        port: int = 0,
        delay_s: float = 0.0,
    ) -> None:
        self.kind = kind
        self.port = port
        self._delay_s = delay_s
        self._log = directory / f"{kind}-service.log"
        self._process: GuardedProcess | None = None

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._running().pid

    def start(self) -> Self:
        """Start the process and wait until it listens.

        Raises:
            ProcessError: it did not start to listen; the text has its log.
        """
        self._log.write_bytes(b"")
        arguments = [self.kind, str(self.port), str(self._delay_s)]
        command = [sys.executable, "-I", "-S", str(_SCRIPT), *arguments]
        process = self._process = GuardedProcess(command, log=self._log, stop_signal=signal.SIGKILL)
        wait_until(lambda: self._listens() or process.poll() is not None, timeout_s=_START_TIMEOUT_S)
        if not self._listens():
            process.stop()
            raise ProcessError(f"the fake {self.kind} service did not start:\n{process.log_tail()}")
        return self

    def _listens(self) -> bool:
        found = re.search(r"Listening on port (\d+)", self._log.read_text())
        if found:
            self.port = int(found[1])
        return found is not None

    def stop(self) -> None:
        """Stop the process. Later connections are refused."""
        if self._process is not None:
            self._process.stop()

    def restart(self) -> None:
        """Start it again on the same port, without entries."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the process: the kernel accepts connections, and nothing is answered."""
        self._running().send(signal.SIGSTOP)

    def resume(self) -> None:
        """End a `pause`."""
        self._running().send(signal.SIGCONT)

    def _running(self) -> GuardedProcess:
        if self._process is None:
            raise ProcessError(f"the fake {self.kind} service has not been started")
        return self._process

    def put(self, *entries: dict[str, Any]) -> None:
        """Add or replace entries.

        Args:
            entries: customers as `{"id", "full_name", "email"}` (and `own_id`, if the customer service's own id
                differs), employees as `{"id", "full_name"}`, vehicles as `{"id", "year", "make", "model",
                "customer_id"}`.
        """
        self._order("put", entries=entries)

    def remove(self, entity_id: str) -> None:
        """Remove an entry: its id is 404 from now on."""
        self._order("remove", id=entity_id)

    def delay(self, delay_s: float) -> None:
        """Set the seconds that each answer takes."""
        self._order("delay", delay_s=delay_s)

    def rule(self, match: str = "", **what: Any) -> None:
        """Change the answers to calls whose path contains `match`. The latest rule that matches applies.

        Args:
            match: a part of the path, such as an id. Empty matches every call.
            what: any of `status`, `body` (text), `headers` (a dict), `delay_s`, `hold=True` (no answer until
                `release`), `drop=True` (the connection is closed), and `times` (the number of calls that the
                rule applies to; without it all).
        """
        self._order("rule", match=match, **what)

    def release(self) -> None:
        """Answer all calls that are held, and stop holding calls."""
        self._order("release")

    def reset(self) -> None:
        """Remove all entries, rules and counts."""
        self._order("reset")

    def forget_calls(self) -> None:
        """Set all counts to zero."""
        self._order("forget")

    def calls(self) -> dict[str, int]:
        """Return the number of calls by path."""
        counts: dict[str, int] = self._order("look")["calls"]
        return counts

    def tokens(self) -> set[str]:
        """Return the bearer tokens of all calls."""
        return set(self._order("look")["tokens"])

    def wait_for(self, *, held: int = 0, calls: int = 0, timeout_s: float = 30.0) -> None:
        """Return when that many calls are held and that many have been made.

        Raises:
            TimeoutError: this did not happen within `timeout_s` seconds.
        """
        counts = self._order("wait", held=held, calls=calls, timeout_s=timeout_s)
        if not counts["reached"]:
            raise TimeoutError(f"the {self.kind} service has seen only {counts}")

    def _order(self, what: str, **details: Any) -> dict[str, Any]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("POST", "/__control", json.dumps({"do": what, **details}))
            answer = connection.getresponse()
            counts: dict[str, Any] = json.loads(answer.read())
        if answer.status != 200:
            raise ValueError(counts["error"])
        return counts


class FakeServices:
    """The three fake services. A context manager.

    Args:
        directory: for their logs; has to exist. None: a temporary one, which is removed at the end.
        delay_s: seconds that each answer takes.
        ports: of the customer, employee and vehicle services; 0 picks a free one.
    """

    def __init__(
        self, directory: Path | None = None, *, delay_s: float = 0.0, ports: tuple[int, int, int] = (0, 0, 0)
    ) -> None:
        self._temporary = tempfile.mkdtemp(prefix="servease-") if directory is None else None
        where = Path(self._temporary) if self._temporary else directory or Path()
        self.customers, self.employees, self.vehicles = (
            FakeService(kind, where, delay_s=delay_s, port=port)
            for kind, port in zip(KINDS, ports, strict=True)
        )
        self.all = (self.customers, self.employees, self.vehicles)

    def __enter__(self) -> Self:
        try:
            for service in self.all:
                service.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all three."""
        for service in self.all:
            service.stop()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def reset(self) -> None:
        """Remove the entries, rules and counts of all three."""
        for service in self.all:
            service.reset()

    def total_calls(self) -> int:
        """Return the number of calls to all three."""
        return sum(sum(service.calls().values()) for service in self.all)

    @property
    def settings(self) -> dict[str, str]:
        """Return the service's settings with their URLs."""
        return {
            "CUSTOMER_SERVICE_URL": self.customers.url,
            "EMPLOYEE_SERVICE_URL": self.employees.url,
            "VEHICLE_SERVICE_URL": self.vehicles.url,
        }
