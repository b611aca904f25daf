"""Lists from the primary and from a replica: the work that the primary no longer has, and the price."""

import contextlib
import http.client
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg2

from benchmarks.measure import Figure
from benchmarks.postgres.testbed import APPOINTMENTS, Testbed, processor_s
from benchmarks.rows import fill_database
from servease_appt.db.engine import Database
from servease_appt.db.replica import Replica
from servease_appt.testing.servers import REPLICATED, EmbeddedPostgres, EmbeddedReplica
from tests.support.gunicorn import Gunicorn

WRITES_PER_S: Final = 50
CONNECTIONS: Final = 16
_ALONE: Final = "the primary"
_WITH: Final = "a replica"
_LAGS: Final = 100
_EDITS: Final = 20
_OUTCOME: Final = 'servease_list_reads_total{outcome="'


@dataclass(slots=True)
class _Contender:
    server: Gunicorn
    per_s: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    primary_ms: list[float] = field(default_factory=list)
    replica_ms: list[float] = field(default_factory=list)
    service_ms: list[float] = field(default_factory=list)
    edit_ms: list[float] = field(default_factory=list)


def measure(*, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure both in turns, while appointments are changed at a steady rate."""
    with ExitStack() as stack:
        testbed = Testbed(stack)
        primary = stack.enter_context(EmbeddedPostgres(settings=REPLICATED))
        url = fill_database(primary, APPOINTMENTS)
        replica = stack.enter_context(EmbeddedReplica(primary))
        replica_url = replica.url(url.rpartition("/")[2])
        contenders = {
            _ALONE: _Contender(testbed.serve(url, workers=2, threads=8)),
            _WITH: _Contender(testbed.serve(url, workers=2, threads=8, DATABASE_REPLICA_URL=replica_url)),
        }
        stack.enter_context(_steady_writes(url))
        warm: dict[str, int] = {}
        for number in range(rounds + 1):
            idle = _idle_share(primary.pid), _idle_share(replica.pid)
            for contender in contenders.values():
                _one_round(testbed, (primary.pid, replica.pid), idle, contender, seconds, counts=number > 0)
            if number == 0:
                warm = _outcomes(contenders[_WITH].server)
        outcomes = _outcomes(contenders[_WITH].server)
        return {
            "writes_per_s": WRITES_PER_S,
            "rows": [_row(name, one, contenders[_ALONE]) for name, one in contenders.items()],
            "outcomes": {name: n - warm[name] for name, n in outcomes.items()},
            "lag_ms": _lags(url, replica_url),
        }


def _one_round(
    testbed: Testbed,
    pids: tuple[int, int],
    idle: tuple[float, float],
    contender: _Contender,
    seconds: float,
    *,
    counts: bool,
) -> None:
    """Load one contender; the processor time of the writes alone is taken off that of both servers."""
    watched = (*pids, contender.server.pid)
    loaded = testbed.load(contender.server, connections=CONNECTIONS, seconds=seconds, watched=watched)
    used = loaded.used_s
    edit_ms = _edit_ms(contender.server, testbed.token(2))
    if not counts:
        return
    contender.per_s.append(loaded.per_s)
    contender.p99_ms.append(loaded.p99_ms)
    contender.primary_ms.append((used[0] - idle[0] * loaded.seconds) / loaded.lists * 1000)
    contender.replica_ms.append((used[1] - idle[1] * loaded.seconds) / loaded.lists * 1000)
    contender.service_ms.append(used[2] / loaded.lists * 1000)
    contender.edit_ms.append(edit_ms)


def _idle_share(pid: int) -> float:
    """Return the share of a core that a server needs while nobody reads lists."""
    before_s, began_s = processor_s(pid), time.monotonic()
    time.sleep(1.0)
    return (processor_s(pid) - before_s) / (time.monotonic() - began_s)


@contextlib.contextmanager
def _steady_writes(url: str) -> Iterator[None]:
    """Change appointments at a steady rate, one transaction each."""
    ended = threading.Event()

    def write() -> None:
        with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(
                "SELECT array_agg(id::text) FROM (SELECT id FROM appointments LIMIT 1000) AS thousand"
            )
            ids = cursor.fetchone()[0]
            due_s, turn = time.monotonic(), 0
            while not ended.wait(max(0.0, due_s - time.monotonic())):
                cursor.execute(
                    "UPDATE appointments SET internal_notes = %s WHERE id = %s::uuid",
                    (f"Changed {turn} times", ids[turn % len(ids)]),
                )
                due_s, turn = due_s + 1 / WRITES_PER_S, turn + 1

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _edit_ms(server: Gunicorn, token: str) -> float:
    """Return the median time of a change through the API, after which a user's own lists are the primary's."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client:
        client.request("GET", "/api/v1/appointments/?status=pending", headers=headers)
        path = f"/api/v1/appointments/{json.loads(client.getresponse().read())['results'][0]['id']}/"
        took_ms = []
        for turn in range(_EDITS):
            body = json.dumps({"internal_notes": f"Turn {turn} at {time.time()}"})
            began_s = time.perf_counter()
            client.request("PATCH", path, body, headers)
            answer = client.getresponse()
            answer.read()
            took_ms.append((time.perf_counter() - began_s) * 1000)
            if answer.status != http.HTTPStatus.OK:
                raise RuntimeError(f"PATCH {path}: {answer.status}")
    return statistics.median(took_ms)


def _outcomes(server: Gunicorn) -> dict[str, int]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client:
        client.request("GET", "/metrics")
        lines = client.getresponse().read().decode().splitlines()
    found = (line.removeprefix(_OUTCOME).split('"} ') for line in lines if line.startswith(_OUTCOME))
    return {outcome: int(float(n)) for outcome, n in found}


def _lags(url: str, replica_url: str) -> dict[str, float]:
    """Return after how many ms the replica had what the primary had, during the writes; nobody reads lists."""
    database = Database(url)
    replica = Replica(replica_url, database, max_lag_s=5)
    try:
        replica.examine()  # connects
        took_ms = sorted(replica.examine()[1] * 1000 for _ in range(_LAGS))
    finally:
        replica.close()
        database.close()
    return {"median": statistics.median(took_ms), "p99": took_ms[int(len(took_ms) * 0.99)]}


def _row(name: str, contender: _Contender, alone: _Contender) -> dict[str, Any]:
    ratios = [ours / theirs for ours, theirs in zip(contender.per_s, alone.per_s, strict=True)]
    return {
        "name": name,
        "lists_per_s": Figure.of(contender.per_s).as_json(),
        "against_primary": Figure.of(ratios).as_json(),
        "p99_ms": Figure.of(contender.p99_ms).median,
        "primary_ms": Figure.of(contender.primary_ms).as_json(),
        "replica_ms": Figure.of(contender.replica_ms).as_json(),
        "service_ms": Figure.of(contender.service_ms).as_json(),
        "edit_ms": Figure.of(contender.edit_ms).as_json(),
    }
