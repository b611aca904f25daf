"""Make the platform's three tables, or adopt those that its Django service made.

A table that is there stays as it is: no row, column, index or constraint of it is touched, with two exceptions.
`appointments.duration_seconds` came late to the platform; where it is missing it is added, 0 in every row, as
the platform's own migration does. And a foreign key of the history is taken off, because history outlives its
appointment; the rows stay. Columns that are missing, or of a type that the service can't work with, or that it
does not know and would have to fill, end the migration with their names, and nothing is changed.
"""

import re

from alembic import op
from sqlalchemy import text

from servease_appt.db.errors import UpgradeRefused

revision = "v1"
down_revision = None

_TABLES = {
    "appointments": {
        "id": "uuid NOT NULL PRIMARY KEY",
        "customer_id": "uuid NOT NULL",
        "vehicle_id": "uuid NOT NULL",
        "assigned_employee_id": "uuid",
        "appointment_type": "varchar(50) NOT NULL",
        "scheduled_date": "date NOT NULL",
        "scheduled_time": "time NOT NULL",
        "duration_minutes": "integer NOT NULL",
        "status": "varchar(20) NOT NULL",
        "service_description": "text NOT NULL",
        "customer_notes": "text NOT NULL",
        "internal_notes": "text NOT NULL",
        "estimated_cost": "numeric(10,2)",
        "created_by_user_id": "uuid NOT NULL",
        "created_at": "timestamptz NOT NULL",
        "updated_at": "timestamptz NOT NULL",
        "cancelled_at": "timestamptz",
        "completed_at": "timestamptz",
        "duration_seconds": "integer NOT NULL",
    },
    "time_slots": {
        "id": "uuid NOT NULL PRIMARY KEY",
        "date": "date NOT NULL",
        "start_time": "time NOT NULL",
        "end_time": "time NOT NULL",
        "is_available": "boolean NOT NULL",
        "max_concurrent_appointments": "integer NOT NULL",
    },
    "appointment_history": {
        "id": "uuid NOT NULL PRIMARY KEY",
        "appointment_id": "uuid NOT NULL",
        "changed_by_user_id": "uuid NOT NULL",
        "previous_status": "varchar(20) NOT NULL",
        "new_status": "varchar(20) NOT NULL",
        "change_reason": "text NOT NULL",
        "changed_at": "timestamptz NOT NULL",
    },
}
_CONSTRAINTS = {"time_slots": ", CONSTRAINT time_slots_date_start_time_key UNIQUE (date, start_time)"}

_COLUMNS_FOUND = text(
    "SELECT attname, atttypid::regtype::text FROM pg_attribute"
    " WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped"
)
_MUST_BE_FILLED = text(
    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped"
    " AND attnotnull AND NOT atthasdef AND attidentity = '' ORDER BY attnum"
)
_FOREIGN_KEYS = text(
    "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = 'appointment_history'::regclass"
)
_SPELLINGS = {
    "varchar": "character varying",
    "time": "time without time zone",
    "timestamptz": "timestamp with time zone",
}


def upgrade() -> None:
    for table, columns in _TABLES.items():
        found: dict[str, str] = dict(op.get_bind().execute(_COLUMNS_FOUND, {"table": table}).all())
        if found:
            _adopt(table, columns, found)
        else:
            body = ", ".join(f"{name} {definition}" for name, definition in columns.items())
            op.execute(f"CREATE TABLE {table} ({body}{_CONSTRAINTS.get(table, '')})")
    for (name,) in op.get_bind().execute(_FOREIGN_KEYS).all():
        op.execute(f'ALTER TABLE appointment_history DROP CONSTRAINT "{name}"')


def _adopt(table: str, columns: dict[str, str], found: dict[str, str]) -> None:
    """Nobody else may write from here to the end, so that what is found stays true."""
    op.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
    if table == "appointments" and "duration_seconds" not in found:
        op.execute("ALTER TABLE appointments ADD COLUMN duration_seconds integer NOT NULL DEFAULT 0")
        op.execute("ALTER TABLE appointments ALTER COLUMN duration_seconds DROP DEFAULT")
        found["duration_seconds"] = "integer"
    wrong = [
        f"{table}.{name} is {found.get(name, 'missing')}, needed is {kind}"
        for name, kind in ((name, _kind(definition)) for name, definition in columns.items())
        if found.get(name) not in {kind, "text" if kind == "character varying" else kind}
    ]
    needed = op.get_bind().execute(_MUST_BE_FILLED, {"table": table}).scalars().all()
    wrong += [
        f"{table}.{name} is unknown here and must not be empty" for name in needed if name not in columns
    ]
    if wrong:
        raise UpgradeRefused("; ".join(wrong))


def _kind(definition: str) -> str:
    kind = re.match(r"\w+", definition)
    name = kind[0] if kind else definition
    return _SPELLINGS.get(name, name)
