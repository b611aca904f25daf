"""Many workers directly at PostgreSQL, and the same through PgBouncer.

A worker keeps as many connections as its threads have used at once. So bursts of requests first make as many as
there will ever be; then lists are measured at a load that the machine can serve.
"""

import contextlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg2

from benchmarks.measure import Figure
from benchmarks.postgres.testbed import APPOINTMENTS, Testbed
from benchmarks.rows import fill_database
from servease_appt.testing.pgbouncer import EmbeddedPgBouncer
from servease_appt.testing.servers import EmbeddedPostgres
from tests.support.gunicorn import Gunicorn

WORKERS: Final = 8
THREADS: Final = 8
CONNECTIONS: Final = 16
POOLS: Final = (8, 20)
"""Sizes of PgBouncer's pool; 20 is its default."""
_DIRECT: Final = "direct"


@dataclass(slots=True)
class _Contender:
    """One way to PostgreSQL, with a database of its own, so that its sessions can be told apart."""

    database_url: str
    server: Gunicorn
    bouncer: EmbeddedPgBouncer | None
    per_s: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    postgres_ms: list[float] = field(default_factory=list)
    bouncer_ms: list[float] = field(default_factory=list)
    sessions: int = 0
    memory_mb: float = 0.0


def measure(*, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return one row for each way, measured in turns."""
    with ExitStack() as stack:
        testbed = Testbed(stack)
        postgres = stack.enter_context(EmbeddedPostgres())
        template = fill_database(postgres, APPOINTMENTS).rpartition("/")[2]
        contenders = {_DIRECT: _contender(testbed, postgres, template, _DIRECT, None)}
        for size in POOLS:
            name = f"PgBouncer, pool of {size}"
            bouncer = stack.enter_context(
                EmbeddedPgBouncer(postgres.url(f"pool_{size}"), {"default_pool_size": str(size)})
            )
            contenders[name] = _contender(testbed, postgres, template, f"pool_{size}", bouncer)
        for number in range(rounds + 1):
            for contender in contenders.values():
                _one_round(testbed, postgres, contender, seconds, counts=number > 0)
        direct = contenders[_DIRECT]
        return [_row(name, contender, direct) for name, contender in contenders.items()]


def _contender(
    testbed: Testbed, postgres: EmbeddedPostgres, template: str, name: str, bouncer: EmbeddedPgBouncer | None
) -> _Contender:
    database_url = postgres.create_database(name, template)
    url = database_url if bouncer is None else bouncer.url
    server = testbed.serve(url, workers=WORKERS, threads=THREADS)
    testbed.burst(server, WORKERS * THREADS)
    return _Contender(database_url, server, bouncer)


def _one_round(
    testbed: Testbed, postgres: EmbeddedPostgres, contender: _Contender, seconds: float, *, counts: bool
) -> None:
    bouncer = contender.bouncer
    watched = [postgres.pid] if bouncer is None else [postgres.pid, bouncer.pid]
    loaded = testbed.load(contender.server, connections=CONNECTIONS, seconds=seconds, watched=watched)
    if not counts:
        return
    contender.per_s.append(loaded.per_s)
    contender.p99_ms.append(loaded.p99_ms)
    contender.postgres_ms.append(loaded.used_s[0] / loaded.lists * 1000)
    contender.bouncer_ms += [used_s / loaded.lists * 1000 for used_s in loaded.used_s[1:]]
    sessions = _sessions(contender.database_url)
    if len(sessions) > contender.sessions:
        contender.sessions = len(sessions)
        contender.memory_mb = sum(map(_own_memory_mb, sessions))


def _sessions(url: str) -> list[int]:
    """Return the processes that serve clients of this database, without the one that is asked."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in cursor.fetchall()]


def _own_memory_mb(pid: int) -> float:
    """Return the memory that only this process has, which ends with it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    kilobytes = sum(
        int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty:", "Private_Clean:"))
    )
    return kilobytes / 1024


def _row(name: str, contender: _Contender, direct: _Contender) -> dict[str, Any]:
    ratios = [ours / theirs for ours, theirs in zip(contender.per_s, direct.per_s, strict=True)]
    return {
        "name": name,
        "workers": WORKERS,
        "threads": THREADS,
        "sessions": contender.sessions,
        "memory_mb": contender.memory_mb,
        "lists_per_s": Figure.of(contender.per_s).as_json(),
        "against_direct": Figure.of(ratios).as_json(),
        "p99_ms": Figure.of(contender.p99_ms).median,
        "postgres_ms": Figure.of(contender.postgres_ms).median,
        "pgbouncer_ms": Figure.of(contender.bouncer_ms).median if contender.bouncer_ms else 0.0,
    }
