"""Run the contest: clients, kills, and the verdict."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from datetime import time as clock_time
from typing import Any

from sqlalchemy import Engine, create_engine, insert, text

from faults.contest import audit
from faults.contest.answers import broken_answers
from faults.contest.clients import DAYS, SETTLE_LIMIT_S, Client, Desk
from faults.contest.replay import Replay, Slot
from faults.http_client import TIMEOUT_S
from faults.testbed import Testbed
from servease_appt.db import models

CAPACITY = 3
"""The default of MAX_CONCURRENT_APPOINTMENTS."""
CLIENTS = 16
EXAMPLES = 5
_KILL_EVERY_S = 1.0
_WORKER_KILLS = 0.3
_SECOND_LINE = (
    "ALTER TABLE appointment_employee_times DROP CONSTRAINT appointments_employee_not_double_booked"
)
"""Without the advisory locks PostgreSQL would still keep an employee from being double booked."""
_BACKENDS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was asked, what was killed, and what the verdict found.

    Attributes:
        requests: by kind of request.
        accepted, refused, unknown: by the certain answer; `unknown` got none.
        changes: committed changes, each of which was replayed.
        violations: number of violations by rule.
        examples: some of them in full.
    """

    seconds: float
    clients: int
    requests: dict[str, int]
    accepted: int
    refused: int
    unknown: int
    changes: int
    workers_killed: int
    backends_terminated: int
    connections_cut: int
    violations: dict[str, int]
    examples: list[str]

    @property
    def kept(self) -> bool:
        """Return whether no rule was broken."""
        return not self.violations

    def as_json(self) -> dict[str, Any]:
        """Return every field."""
        return asdict(self)

    def text(self) -> str:
        """Return it as a paragraph."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.requests.items()))
        found = ", ".join(f"{count:,} × {rule}" for rule, count in sorted(self.violations.items()))
        return (
            f"{self.clients} clients made {sum(self.requests.values()):,} requests in {self.seconds:.0f} s"
            f" ({kinds}): {self.accepted:,} were accepted, {self.refused:,} refused, and {self.unknown:,} got no"
            f" certain answer. {self.workers_killed} workers were killed, {self.backends_terminated} backends of"
            f" PostgreSQL terminated, and {self.connections_cut} connections cut by clients. The replay of"
            f" {self.changes:,} committed changes found {found or 'no violation'}."
        )


def run(seconds: float, without: str | None = None) -> Outcome:
    """Run the contest for so long.

    Args:
        without: the name of a protection that the served build lacks; None: the service as it is. Without the
            advisory locks the database lacks the constraint behind them, too.
    """
    with Testbed(broken=without) as testbed:
        engine = create_engine(testbed.database_url)
        with engine.begin() as connection:
            slots = _define_slots(connection)
            audit.install(connection)
            if without == "no-advisory-locks":
                connection.execute(text(_SECOND_LINE))
            before = audit.appointments(connection)
        desk, kills = Desk(testbed), Kills(testbed, engine)
        began_s = time.monotonic()
        _contest(desk, kills, seconds)
        took_s = time.monotonic() - began_s
        testbed.stop_serving()  # so that nothing is under way any more
        with engine.connect() as connection:
            changes, reasons = audit.changes(connection), audit.reasons(connection)
            after = audit.appointments(connection)
        engine.dispose()
    replay = Replay(before, slots, CAPACITY)
    found = [*replay.run(changes), *broken_answers(desk.requests, changes, reasons)]
    if replay.rows != after:
        found.append("log incomplete: its changes do not lead to the table's rows")
    return _outcome(desk, kills, len(changes), found, took_s)


def _contest(desk: Desk, kills: Kills, seconds: float) -> None:
    clients = [Client(desk) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        time.sleep(_KILL_EVERY_S)
        kills.one()
    desk.stopping.set()
    for thread in threads:
        thread.join(SETTLE_LIMIT_S + TIMEOUT_S)


def _define_slots(connection: Any) -> list[Slot]:
    """Define a closed half hour and an hour with room for one, and return them."""
    given = (
        (DAYS[0], clock_time(11), clock_time(11, 30), False, 5),
        (DAYS[1], clock_time(9), clock_time(10), True, 1),
    )
    names = ("date", "start_time", "end_time", "is_available", "max_concurrent_appointments")
    rows = [{"id": str(uuid.uuid4()), **dict(zip(names, values, strict=True))} for values in given]
    connection.execute(insert(models.TimeSlot), rows)
    return [
        Slot(datetime.combine(day, start), datetime.combine(day, end), capacity if available else 0)
        for day, start, end, available, capacity in given
    ]


class Kills:
    """Kills workers and PostgreSQL's backends. For one thread."""

    def __init__(self, testbed: Testbed, engine: Engine) -> None:
        self._testbed = testbed
        self._engine = engine
        self.workers = 0
        self.backends = 0

    def one(self) -> None:
        """Kill a worker, or half of the backends."""
        if random.random() < _WORKER_KILLS:
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(random.choice(self._testbed.worker_pids()), signal.SIGKILL)
                self.workers += 1
        else:
            with self._engine.connect() as connection:
                self.backends += int(connection.execute(text(_BACKENDS)).scalar_one())


def _outcome(desk: Desk, kills: Kills, changes: int, found: list[str], seconds: float) -> Outcome:
    requests = desk.requests
    return Outcome(
        seconds=seconds,
        clients=CLIENTS,
        requests=dict(Counter(request.kind.value for request in requests)),
        accepted=sum(request.accepted for request in requests),
        refused=sum(request.refused for request in requests),
        unknown=sum(not request.accepted and not request.refused for request in requests),
        changes=changes,
        workers_killed=kills.workers,
        backends_terminated=kills.backends,
        connections_cut=desk.cuts,
        violations=dict(Counter(violation.partition(":")[0] for violation in found)),
        examples=found[:EXAMPLES],
    )
