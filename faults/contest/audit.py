"""The order in which PostgreSQL carried out all changes of appointments, from a trigger in the run's own database.

A transaction that depends on another one can change its row only when the other has ended, so the numbers of two
rows that could break a rule together have the order of their commits. What is rolled back leaves no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

_INSTALL = (
    "CREATE TABLE contest_log (number bigserial PRIMARY KEY, before jsonb, after jsonb)",
    """
    CREATE FUNCTION contest_note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN INSERT INTO contest_log (after) VALUES (to_jsonb(NEW));
        ELSIF TG_OP = 'DELETE' THEN INSERT INTO contest_log (before) VALUES (to_jsonb(OLD));
        ELSE INSERT INTO contest_log (before, after) VALUES (to_jsonb(OLD), to_jsonb(NEW));
        END IF;
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER contest_note AFTER INSERT OR UPDATE OR DELETE ON appointments"
    " FOR EACH ROW EXECUTE FUNCTION contest_note()",
)

Row = Mapping[str, Any]
"""An appointment, as PostgreSQL writes it in JSON."""


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change of one appointment; no `before` for a new one, no `after` for a deleted one."""

    before: Row | None
    after: Row | None


def install(connection: Connection) -> None:
    """Begin to log."""
    for statement in _INSTALL:
        connection.execute(text(statement))


def changes(connection: Connection) -> list[Change]:
    """Return all changes so far, in the order in which they took effect."""
    rows = connection.execute(text("SELECT before, after FROM contest_log ORDER BY number"))
    return [Change(*row) for row in rows]


def appointments(connection: Connection) -> dict[str, Row]:
    """Return all appointments by id."""
    rows = connection.execute(text("SELECT to_jsonb(appointments) FROM appointments")).scalars()
    return {row["id"]: row for row in rows}


def reasons(connection: Connection) -> list[str]:
    """Return the reason of every accepted change that the service's history has."""
    return list(connection.execute(text("SELECT change_reason FROM appointment_history")).scalars())
