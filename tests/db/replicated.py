"""A primary with a streaming replica, for tests of what is read where."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
import redis

from servease_appt.db.migrate import upgrade
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import REPLICATED, EmbeddedPostgres, EmbeddedReplica

LIMIT_S = 20.0
"""More than anything here takes."""


class Replicated:
    """Both servers, with the service's tables."""

    def __init__(self, primary: EmbeddedPostgres, replica: EmbeddedReplica) -> None:
        self.primary = primary
        self.replica = replica

    def on_primary(self, statement: str) -> str:
        """Execute a statement on the primary; return its first value as text."""
        return _execute(self.primary.url(), statement)

    def on_replica(self, statement: str) -> str:
        """Execute a statement on the replica; return its first value as text."""
        return _execute(self.replica.url(), statement)

    @contextmanager
    def replay_paused(self) -> Iterator[None]:
        """Let the replica receive the log of the primary, and show none of it."""
        self.catch_up()
        self.on_replica("SELECT pg_wal_replay_pause()")
        assert wait_until(
            lambda: self.on_replica("SELECT pg_get_wal_replay_pause_state()") == "paused", timeout_s=LIMIT_S
        )
        try:
            yield
        finally:
            self.on_replica("SELECT pg_wal_replay_resume()")

    def catch_up(self) -> None:
        """Wait until the replica has everything."""
        position = self.on_primary("SELECT pg_current_wal_lsn()")
        has = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
        assert wait_until(lambda: self.on_replica(has) == "True", timeout_s=LIMIT_S)


@contextmanager
def replicated() -> Iterator[Replicated]:
    """Start both servers."""
    with EmbeddedPostgres(settings=REPLICATED) as primary:
        upgrade(primary.url())
        with EmbeddedReplica(primary) as replica:
            yield Replicated(primary, replica)


def keep_marks(redis_url: str, prefix: str) -> None:
    """Have Redis show that it has kept the marks of writes for a long time."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.set(f"{prefix}:__{{wrote}}:history", client.info("replication")["master_replid"])


def _execute(url: str, statement: str) -> str:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return str(cursor.fetchone()[0]) if cursor.description else ""
