"""Where lists are read: from the primary, or from a replica if there is one.

A list from the replica is at most `DATABASE_REPLICA_MAX_LAG` seconds old, and never without a write of the user
who asks for it, whichever worker took that write. Whenever one of both is not certain, or the replica fails, the
list is read from the primary at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from sqlalchemy import Connection

from servease_appt.db.engine import Database
from servease_appt.db.replica import Replica, ReplicaNotUsed, ReplicaState
from servease_appt.list_reads.own_writes import LastWrite, OwnWrites

ResultT = TypeVar("ResultT")

FROM_REPLICA: Final = "replica"
OWN_WRITE: Final = "own_write"
REDIS: Final = "redis"
_REASONS: Final = {
    ReplicaState.IDLE: "idle",
    ReplicaState.BEHIND: "behind",
    ReplicaState.UNAVAILABLE: "unavailable",
    ReplicaState.WRONG: "wrong",
}
OUTCOMES: Final = (FROM_REPLICA, OWN_WRITE, REDIS, *_REASONS.values())
"""Where a list was read: from the replica, or the reason why it was read from the primary."""


class ListReads:
    """Reads lists from the primary or a replica. Thread-safe and fork-safe."""

    def __init__(
        self,
        primary: Database,
        replica: Replica | None = None,
        own_writes: OwnWrites | None = None,
        on_read: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        """Read from `primary` alone, unless both a replica and the users' own writes are given.

        Args:
            primary: used wherever the replica is not; stays the caller's to close.
            replica: closed by `close`.
            own_writes: the marks of users who have written.
            on_read: called with one of `OUTCOMES` for each list, if there is a replica.
        """
        self._primary = primary
        self.replica = replica
        self._own_writes = own_writes
        self._on_read = on_read

    def read(self, user_id: str, find: Callable[[Connection], ResultT]) -> ResultT:
        """Return what `find` returns for a connection in autocommit mode.

        `find` only reads. It is called again with another connection if the replica fails while it reads.

        Args:
            user_id: who gets the list.
            find: reads the list. Its own errors pass through.

        Raises:
            DatabaseUnavailable: the primary can't be used, and the list could not be read from the replica.
        """
        if self.replica is not None and self._own_writes is not None:
            outcome, found = self._from_replica(self.replica, self._own_writes, user_id, find)
            self._on_read(outcome)
            if found:
                return found[0]
        with self._primary.reading() as connection:
            return find(connection)

    @contextmanager
    def own_write(self, user_id: str) -> Iterator[None]:
        """Make a user's writes within the block visible in their next list, however the block ends.

        If Redis does not take the mark, this waits until the replica has the writes, for the longest permitted lag
        at most.
        """
        try:
            yield
        finally:
            if (
                self.replica is not None
                and self._own_writes is not None
                and not self._own_writes.mark(user_id)
            ):
                self.replica.wait_until_replayed()

    def close(self) -> None:
        """Close the replica's connections. Idempotent."""
        if self.replica is not None:
            self.replica.close()

    @staticmethod
    def _from_replica(
        replica: Replica, own_writes: OwnWrites, user_id: str, find: Callable[[Connection], ResultT]
    ) -> tuple[str, tuple[ResultT, ...]]:
        """Return where the list is to be read, and a tuple with what was found if that was the replica."""
        try:
            replica.check()
            # Before the position is chosen that the replica must have: a mark that expires meanwhile is too old.
            last_write = own_writes.last_write(user_id)
            if last_write is not LastWrite.LONG_AGO:
                return (OWN_WRITE if last_write is LastWrite.RECENT else REDIS), ()
            with replica.reading() as connection:
                return FROM_REPLICA, (find(connection),)
        except ReplicaNotUsed as error:
            return _REASONS[error.state], ()
