"""The replication history of a server: proof that a promoted or restarted server has lost no invalidation.

A sequence alone is no proof. After a failover to a replica that lags behind, other invalidations may count past
the highest number seen before a worker reconnects. So the server also reports its replication id and its offset. A
promoted replica continues its primary's offset under a new id, and reports the old id and the offset of the
switch.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

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
    """A server's report. `previous_id` is None if no other history is continued from `switched_at` on."""

    is_primary: bool
    id: str
    offset: int
    previous_id: str | None
    switched_at: int


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
        )
    except (KeyError, ValueError):
        return None


class History:
    """What one connection after the other has seen of a server's history. For one thread."""

    def __init__(self) -> None:
        self.seen: Replication | None = None

    def compare(self, report: Replication | None, *, reconnected: bool) -> Continuity:
        """Compare a report with the last one that was accepted.

        Args:
            report: the server's report; None: it gave none.
            reconnected: True for the first report of a connection. On one connection, only a demotion changes the
                history; a new id alone means that the first replica came, or the last one went long ago.
        """
        seen = self.seen
        if seen is None or report is None:
            return Continuity.UNKNOWN
        if report.id == seen.id:
            return Continuity.SAME if report.offset >= seen.offset else Continuity.BROKEN
        if report.previous_id is None and not reconnected:
            return Continuity.SAME
        if report.previous_id == seen.id and report.switched_at > seen.offset:
            return Continuity.CONTINUED
        return Continuity.BROKEN

    def new_id(self, report: Replication | None) -> str | None:
        """Return the id of a report if it differs from the id seen; None if it does not, or one is unknown."""
        if self.seen is None or report is None or report.id == self.seen.id:
            return None
        return report.id

    def accept(self, report: Replication | None) -> None:
        """Remember a report, once the cache has acted on what its comparison says; None changes nothing."""
        self.seen = report or self.seen
