"""The replication history of a server: proof that a promoted or restarted server has lost no invalidation.

A sequence alone is no proof. After a failover to a replica that lags behind, other invalidations may count past
the highest number seen before a worker reconnects. So the server also reports its replication id and its offset. A
promoted replica continues its primary's offset under a new id, and reports the old id and the offset of the
switch.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from enum import Enum, auto
from typing import NamedTuple

from servease_appt.cache.clocks import elapsed_s

_NO_ID = "0" * 40


class Continuity(Enum):
    """What two reports say about what happened between them."""

    SAME = auto()
    """The same history: nothing was lost."""
    CONTINUED = auto()
    """Another server continued the history at or after the offset seen."""
    BROKEN = auto()
    """The history was cut before the offset seen, or is another one: invalidations may be lost."""
    UNKNOWN = auto()
    """The server does not report its history, or none was seen before."""


class Replication(NamedTuple):
    """A server's report.

    `previous_id` is None if no other history is continued from `switched_at` on. `replicas` counts those that are
    connected and have a complete copy, whether or not they still answer.
    """

    is_primary: bool
    id: str
    offset: int
    previous_id: str | None
    switched_at: int
    replicas: int = 0


def parse(info: object) -> Replication | None:
    """Return the report in the answer to INFO REPLICATION; None if it is refused or incomplete."""
    if not isinstance(info, bytes):
        return None
    fields = dict(line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
    try:
        previous = fields["master_replid2"]
        return Replication(
            is_primary=fields["role"] == "master",
            id=fields["master_replid"],
            offset=int(fields["master_repl_offset"]),
            previous_id=None if previous == _NO_ID else previous,
            switched_at=int(fields["second_repl_offset"]),
            replicas=sum(
                name.startswith("slave") and ",state=online," in text for name, text in fields.items()
            ),
        )
    except (KeyError, ValueError):
        return None


class Histories:
    """What was seen of each server's history. For one thread, but for `count` and the attributes.

    Attributes:
        invalidations: the number of invalidations received or acknowledged. Take it before a report is asked for.
        counted_at_s: when the last of them was counted, by `clocks.elapsed_s`.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Replication, int]] = {}
        self._lock = threading.Lock()
        self.invalidations = 0
        self.counted_at_s = float("-inf")

    def count(self) -> None:
        """Count an invalidation, after it was received or acknowledged. Thread-safe."""
        with self._lock:
            self.invalidations += 1
            self.counted_at_s = elapsed_s()

    def compare(
        self,
        server: str,
        report: Replication | None,
        *,
        reconnected: bool,
        servers: Collection[str] = (),
    ) -> Continuity:
        """Compare a report with the last ones that were accepted.

        Args:
            server: the name of the server, the same for a single server wherever its name leads.
            report: the server's report; None: it gave none.
            reconnected: True for the first report of a connection. On one connection, only a demotion changes the
                history; a new id alone means that the first replica came, or the last one went long ago.
            servers: the names of all primaries of a cluster. One that has gone may be replaced by a new one.
        """
        if report is None:
            return Continuity.UNKNOWN
        related = self._related(report)
        if related is None:
            return self._compare_unrelated(server, report, reconnected, servers)
        seen, invalidations = self._seen[related]
        if report.id == seen.id:
            return Continuity.SAME if report.offset >= seen.offset else Continuity.BROKEN
        complete = report.switched_at > seen.offset and invalidations == self.invalidations
        return Continuity.CONTINUED if complete else Continuity.BROKEN

    def new_id(self, report: Replication | None) -> str | None:
        """Return the id of a report if other ids were seen before; None if it was seen, or one is unknown."""
        if not self._seen or report is None or any(seen.id == report.id for seen, _ in self._seen.values()):
            return None
        return report.id

    def accept(
        self, server: str, report: Replication | None, invalidations: int, servers: Collection[str] = ()
    ) -> None:
        """Remember a report, once the cache has acted on its comparison.

        Args:
            server: see `compare`.
            report: the report; None changes nothing.
            invalidations: the number of invalidations when the report was asked for.
            servers: see `compare`.
        """
        if report is None:
            return
        gone = [name for name in self._seen if servers and name not in servers]
        replaced = self._related(report) or (gone[0] if gone and server not in self._seen else None)
        if replaced in gone:
            del self._seen[replaced]
        self._seen[server] = (report, invalidations)

    def _related(self, report: Replication) -> str | None:
        """Return the server whose history the report is about, or continues."""
        for id_ in (report.id, report.previous_id):
            for name, (seen, _) in self._seen.items():
                if seen.id == id_:
                    return name
        return None

    def _compare_unrelated(
        self, server: str, report: Replication, reconnected: bool, servers: Collection[str]
    ) -> Continuity:
        if server in self._seen:
            same_process = report.previous_id is None and not reconnected
            return Continuity.SAME if same_process else Continuity.BROKEN
        replaces_one = bool(servers) and any(name not in servers for name in self._seen)
        return Continuity.BROKEN if replaces_one else Continuity.UNKNOWN
