"""Online execution of an upgrade's steps, while services write: short lock waits, no strong lock during a scan.

A statement that waits for a strong lock makes all later statements on the table wait, too. So each step is a
separate transaction with one kind of lock. It gives up after a tenth of a second and tries again later, so writers
wait that long at most. PostgreSQL looks for deadlocks only after a second, so it never ends a writer for one. A
statement that reads a whole table (a check of old rows, an index, a count) runs separately, with locks that let
others write.
"""

import random
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from servease_appt.db.errors import LockNotAvailable, sqlstate

LOCK_TIMEOUT_MS: Final = 100
PATIENCE_S: Final = 120.0
_LONGEST_PAUSE_S: Final = 2.0
_TRY_AGAIN: Final = frozenset({"55P03", "40P01", "40001"})

_BLOCKERS: Final = text(
    "SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), a.usename), left(a.query, 60)"
    " FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE l.relation IN (to_regclass('appointments'),"
    " to_regclass('time_slots'), to_regclass('appointment_history')) AND l.granted AND a.pid <> pg_backend_pid()"
    " AND a.xact_start < now() - INTERVAL '1 second' ORDER BY 1 LIMIT 3"
)
_BODY: Final = (
    "SELECT prosrc FROM pg_proc WHERE proname = :name AND pronamespace = current_schema()::regnamespace"
)
_TRIGGER: Final = (
    "SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = to_regclass('appointments') AND tgname = :name"
)
_INDEX_STATE: Final = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"


class Firing(Enum):
    """The sessions for which a trigger fires; the value is PostgreSQL's `tgenabled`."""

    ORIGIN = "O"
    ALWAYS = "A"
    REPLICA = "R"

    @property
    def keyword(self) -> str:
        """The keyword before TRIGGER in `ENABLE … TRIGGER`."""
        return "" if self is Firing.ORIGIN else f"{self.name} "


class OnlineSteps:
    """Runs statements while others write, on a connection in autocommit mode; a dry run only records them.

    Attributes:
        planned: the statements that a dry run recorded, in order.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        dry_run: bool = False,
        progress: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self.dry_run = dry_run
        self.planned: list[str] = []

    def query(self, statement: str, **parameters: Any) -> Any:
        """Return the first column of the first row; None if there is no row. Runs in a dry run, too."""
        return self._connection.execute(text(statement), parameters).scalar()

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        """Return all rows. Runs in a dry run, too."""
        return list(self._connection.execute(text(statement), parameters).all())

    def exists(self, table: str) -> bool:
        """Return True if there is a table, view, index or sequence of this name."""
        return self.query("SELECT to_regclass(:name) IS NOT NULL", name=table) is True

    def run(self, *statements: str) -> None:
        """Run the statements in one transaction with a short lock timeout, and retry until it succeeds.

        Raises:
            LockNotAvailable: it did not succeed within `PATIENCE_S` seconds.
        """
        self._attempt(statements, lambda: self._transaction(statements, f"{LOCK_TIMEOUT_MS}ms"))

    def scan(self, *statements: str) -> None:
        """Run the statements in one transaction that may take long; only for locks that let others write.

        Raises:
            LockNotAvailable: it got no lock within `PATIENCE_S` seconds.
        """
        self._attempt(statements, lambda: self._transaction(statements, "5s"))

    def function(self, name: str, definition: str) -> None:
        """Create or replace a function if its body differs from that between the two `$body$` of `definition`.

        `{schema}` in `definition` stands for the schema of the tables.
        """
        wanted = definition.replace("{schema}", self.query("SELECT quote_ident(current_schema())"))
        if self.query(_BODY, name=name) != wanted.split("$body$")[1]:
            self.run(wanted)

    def trigger(self, name: str, event: str, action: str, firing: Firing = Firing.ORIGIN) -> bool:
        """Create a trigger on `appointments`, or correct when it fires. Returns True if there was none.

        Turning all triggers off and on, as a restore does, loses the setting of triggers that fire for
        replication.
        """
        state = self.query(_TRIGGER, name=name)
        if state == firing.value:
            return False
        create = f"CREATE TRIGGER {name} AFTER {event} ON appointments {action}"
        enable = f"ALTER TABLE appointments ENABLE {firing.keyword}TRIGGER {name}"
        self.run(*((create,) if state is None else ()), enable)
        return state is None

    def index(self, name: str, definition: str) -> None:
        """Create an index while others write. An index that an earlier attempt left unfinished is replaced.

        Args:
            name: the name of the index.
            definition: the SQL after ON.

        Raises:
            LockNotAvailable: earlier transactions did not end within `PATIENCE_S` seconds.
        """
        if self.query(_INDEX_STATE, name=name) is True:
            return
        create = f"CREATE INDEX CONCURRENTLY {name} ON {definition}"

        def build() -> None:
            self.drop_index(name)
            self._alone(create)

        self._attempt((create,), build)

    def drop_index(self, name: str) -> None:
        """Drop an index, if it exists, while others read and write."""
        if self.exists(name):
            drop = f"DROP INDEX CONCURRENTLY IF EXISTS {name}"
            if self.dry_run:
                self.planned.append(drop)
            else:
                self._alone(drop)

    def _attempt(self, statements: tuple[str, ...], work: Callable[[], None]) -> None:
        if self.dry_run:
            self.planned += [_in_one_line(statement) for statement in statements]
            return
        give_up_at_s = self._clock() + PATIENCE_S
        attempts = 0
        while True:
            try:
                work()
            except DBAPIError as error:
                if sqlstate(error) not in _TRY_AGAIN:
                    raise
                attempts += 1
                if self._clock() > give_up_at_s:
                    raise LockNotAvailable(self._blocked(statements[0])) from error
                if attempts == 1:
                    self._progress(f"waiting for a lock: {_in_one_line(statements[0])}")
                self._sleep(min(0.1 * attempts, _LONGEST_PAUSE_S) * random.uniform(0.5, 1))
            else:
                return

    def _transaction(self, statements: tuple[str, ...], lock_timeout: str) -> None:
        run, driver = self._connection.exec_driver_sql, self._driver()
        driver.settings = ""
        try:
            run(f"{driver.begin}SET LOCAL lock_timeout = '{lock_timeout}'")
            for statement in statements:
                run(statement.replace("%", "%%"))
            run("COMMIT")
        except BaseException:
            if not self._connection.invalidated:
                run("ROLLBACK")
            raise
        finally:
            driver.settings = driver.outside

    def _alone(self, statement: str) -> None:
        """Run a statement outside of a transaction, with its settings set on the session.

        Behind a pooler, PostgreSQL's defaults apply: other clients share the session.
        """
        run, driver = self._connection.exec_driver_sql, self._driver()
        driver.settings = ""
        try:
            if run("SELECT pg_backend_pid()").scalar() == driver.get_backend_pid():
                run(f"SET statement_timeout = 0; SET lock_timeout = '{PATIENCE_S:.0f}s'")
            run(statement)
        finally:
            driver.settings = driver.outside

    def _driver(self) -> Any:
        return self._connection.connection.dbapi_connection

    def _blocked(self, statement: str) -> str:
        found = self._connection.execute(_BLOCKERS).all()
        by = "; ".join(f"process {pid} ({name}): {_in_one_line(query)}" for pid, name, query in found)
        return (
            f"no lock within {PATIENCE_S:.0f} s for: {_in_one_line(statement)}. "
            f"Held by {by or 'a transaction that has ended meanwhile'}. "
            "What was done before stays; run `db upgrade` again when it is over."
        )


def _in_one_line(statement: str) -> str:
    """Return the statement without line breaks, shortened for a terminal."""
    line = " ".join(statement.split())
    return line if len(line) <= 160 else f"{line[:157]}..."
