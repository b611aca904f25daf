"""The history of an experiment: one `Operation` for each request and each direct read of Redis.

All times are `time.monotonic_ns()` of one machine, so times of different processes can be compared.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

PAGE = "page"
"""A page read by a browser at its own pace."""
PROBE = "probe"
"""A page read right after an invalidation, on each worker."""
INVALIDATE = "invalidate"
L2 = "l2"
"""A look into Redis itself."""
STATS = "stats"
"""A look at `GET /cache/stats/` of one worker."""
BOOK = "book"

READS = (PAGE, PROBE)
NO_ANSWER = 0
"""The status of a request that got no answer."""


@dataclass(slots=True)
class Operation:
    """One request, or one direct read of Redis.

    Attributes:
        op: one of the names above.
        t_call, t_return: nanoseconds.
        status: of HTTP; NO_ANSWER if there was none; 200 for a read of Redis that succeeded.
        request: its `X-Request-Id`.
        worker: process id of the worker that answered; 0 if it is not known.
        seen: for reads, the text that was shown by key.
        live: for invalidations, the version that the service had before the call, by key.
        facts: further values to check.
    """

    op: str
    t_call: int
    t_return: int
    status: int
    request: str = ""
    worker: int = 0
    seen: dict[str, str] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def took_ms(self) -> float:
        """Return the milliseconds from call to return."""
        return (self.t_return - self.t_call) / 1e6


class History:
    """Collects the operations of many threads. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operations: list[Operation] = []
        self._counts: Counter[str] = Counter()

    def add(self, operation: Operation) -> None:
        """Add one operation."""
        with self._lock:
            self._operations.append(operation)
            self._counts[operation.op] += 1

    def count(self, op: str) -> int:
        """Return the number of operations of one kind so far."""
        with self._lock:
            return self._counts[op]

    def take(self) -> list[Operation]:
        """Return all operations so far, in the order of their calls, and remove them."""
        with self._lock:
            taken, self._operations = self._operations, []
        return sorted(taken, key=lambda operation: operation.t_call)


def write(operations: Iterable[Operation], path: Path) -> None:
    """Write operations as JSON lines; empty fields are left out."""
    with path.open("w") as file:
        for operation in operations:
            kept = {name: value for name, value in asdict(operation).items() if value not in ("", {}, 0)}
            file.write(json.dumps(kept) + "\n")


def read(path: Path) -> list[Operation]:
    """Read what `write` wrote."""
    names = {field.name for field in fields(Operation)}
    blank = {"status": NO_ANSWER}
    with path.open() as file:
        rows = (blank | json.loads(line) for line in file)
        return [Operation(**{name: row[name] for name in names & row.keys()}) for row in rows]
