"""Load at twice what can be served: what is let in is answered in time, the rest is refused at once.

First clients that wait for their answers find out how much can be served, beside a load generator on the same
machine. Then twice as much is sent by clients that don't wait, and meanwhile the health check is asked all the
time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

from faults import open_loop
from faults.checkers import percentile
from faults.open_loop import MOST_CONNECTIONS, Sent
from faults.testbed import Testbed

WORKERS = 2
PATH = "/appointments/?page_size=20"
WARM_UP_S = 1.0
CAPACITY_S = 6.0
OVERLOAD_S = 15.0
FACTOR = 2.0
LET_IN_LIMIT_MS = 2000.0
"""A second in the queue, at most, and a second of work beside as many others as there are threads."""
HEALTH_LIMIT_MS = 3000.0
"""The limit of the container's health check."""
_CLIENTS = 16
_HEALTH_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of one run; times in milliseconds.

    Attributes:
        capacity: requests a second that were served to clients that wait.
        offered: requests a second that were sent by clients that don't.
        served: requests a second that were let in and answered.
        share_refused: part of the requests that was answered with 503.
        share_held_back: part that was not sent, since all connections of the generator were waiting.
    """

    workers: int
    capacity: float
    offered: float
    served: float
    share_refused: float
    share_held_back: float
    let_in_p50_ms: float
    let_in_p99_ms: float
    refused_p99_ms: float
    health_asked: int
    health_p99_ms: float
    health_max_ms: float
    broken: list[str]

    @property
    def kept(self) -> bool:
        """Return whether every promise was kept."""
        return not self.broken

    def as_json(self) -> dict[str, Any]:
        """Return every field."""
        return asdict(self)

    def text(self) -> str:
        """Return the figures as a table."""
        rows = {
            "served to clients that wait for their answers": f"{self.capacity:.0f} requests a second",
            "sent by clients that don't": f"{self.offered:.0f} requests a second",
            "let in and answered": f"{self.served:.0f} requests a second",
            "refused with 503 and `Retry-After`": f"{self.share_refused:.0%}",
            f"not sent, since {MOST_CONNECTIONS} connections were waiting": f"{self.share_held_back:.0%}",
            "time of what was let in, p50 / p99": f"{self.let_in_p50_ms:.0f} / {self.let_in_p99_ms:.0f} ms",
            "time of a refusal, p99": f"{self.refused_p99_ms:.0f} ms",
            "time of the health check, p99 / longest": f"{self.health_p99_ms:.0f} / {self.health_max_ms:.0f} ms"
            f" of {self.health_asked} checks",
            "kept": "yes" if self.kept else f"**NO: {'; '.join(self.broken)}**",
        }
        return "\n".join(
            ["| what | measured |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows.items())]
        )


def run(without: str | None = None) -> Outcome:
    """Measure.

    Args:
        without: the name of a protection that the served build lacks; None: the service as it is.
    """
    with Testbed(workers=WORKERS, broken=without) as testbed:
        _Waiting(testbed).rate(WARM_UP_S)
        capacity = _Waiting(testbed).rate(CAPACITY_S)
        health = _HealthChecks(testbed)
        sent = open_loop.send(testbed.gunicorn.port, testbed.token, PATH, FACTOR * capacity, OVERLOAD_S)
        return judge(capacity, sent, health.stop())


def judge(capacity: float, sent: Sent, health_ms: list[float | None]) -> Outcome:
    """Compute the figures and find the promises that were broken.

    Args:
        capacity: requests a second.
        sent: what became of the load.
        health_ms: milliseconds of each health check; None: it got no good answer.
    """
    checks_ms = [took_ms for took_ms in health_ms if took_ms is not None]
    let_in_p99_ms = percentile(sent.took_ms, 99)
    health_max_ms = max(checks_ms, default=0.0)
    broken = [f"{count} × {what}" for what, count in sent.other.items()]
    if not sent.refused:
        broken.append("nothing was refused")
    if sent.without_retry_after:
        broken.append(f"{sent.without_retry_after} refusals without Retry-After")
    if not sent.took_ms or let_in_p99_ms > LET_IN_LIMIT_MS:
        broken.append(f"what was let in took {let_in_p99_ms:.0f} ms (p99)")
    if not checks_ms or len(checks_ms) < len(health_ms):
        broken.append(f"{len(health_ms) - len(checks_ms)} of {len(health_ms)} health checks failed")
    if health_max_ms > HEALTH_LIMIT_MS:
        broken.append(f"a health check took {health_max_ms:.0f} ms")
    return Outcome(
        workers=WORKERS,
        capacity=capacity,
        offered=sent.requests / sent.seconds,
        served=len(sent.took_ms) / sent.seconds,
        share_refused=sent.refused / sent.requests,
        share_held_back=sent.held_back / sent.requests,
        let_in_p50_ms=percentile(sent.took_ms, 50),
        let_in_p99_ms=let_in_p99_ms,
        refused_p99_ms=percentile(sent.refused_ms, 99),
        health_asked=len(health_ms),
        health_p99_ms=percentile(checks_ms, 99),
        health_max_ms=health_max_ms,
        broken=broken,
    )


class _Waiting:
    """Clients that wait for each answer before they ask again."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._served = [0] * _CLIENTS

    def rate(self, seconds: float) -> float:
        """Ask for so long. Returns the requests a second that were answered with 200."""
        until_s = time.monotonic() + seconds
        clients = [threading.Thread(target=self._ask, args=(number, until_s)) for number in range(_CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return sum(self._served) / seconds

    def _ask(self, number: int, until_s: float) -> None:
        slot = self._testbed.slot()
        while time.monotonic() < until_s:
            self._served[number] += slot.ask("GET", PATH).status == 200
        slot.close()


class _HealthChecks:
    """Asks for `/health/` over a new connection each time, as a container's check does, until `stop`."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._took_ms: list[float | None] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> list[float | None]:
        """Return the milliseconds of each check; None: it got no good answer."""
        self._stopping.set()
        self._thread.join()
        return self._took_ms

    def _run(self) -> None:
        while not self._stopping.wait(_HEALTH_EVERY_S):
            slot = self._testbed.slot()
            began_s = time.monotonic()
            good = slot.ask("GET", "/health/").status == 200
            self._took_ms.append((time.monotonic() - began_s) * 1000 if good else None)
            slot.close()
