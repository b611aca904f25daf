"""Create the platform's three tables, or adopt those that its Django service created.

An existing table does not change: no row, column, index or constraint of it, with two exceptions.
`appointments.duration_seconds` came with the platform's second migration. If it is missing, it is added with 0 in
every row, and keeps that default, so that a platform without the column can continue to write. It is also entered
in Django's list of migrations, or that migration would fail. And foreign keys of the history are dropped, because
history outlives its appointment; the rows stay. A column that is missing, has an unsupported type, or is unknown
and must be filled ends the migration with its name before anything is changed.
"""

import re
from collections.abc import Iterator

from servease_appt.db.errors import UpgradeRefused
from servease_appt.db.online import OnlineSteps

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

_COLUMNS_FOUND = (
    "SELECT attname, atttypid::regtype::text FROM pg_attribute"
    " WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped"
)
_MUST_BE_FILLED = (
    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped"
    " AND attnotnull AND NOT atthasdef AND attidentity = '' ORDER BY attnum"
)
_KIND_OF_TABLE = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass(:table)"
_FOREIGN_KEYS = (
    "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = to_regclass('appointment_history')"
)
_OTHER_KINDS = {"p": "a partitioned table", "v": "a view", "m": "a materialized view", "f": "a foreign table"}
_SPELLINGS = {
    "varchar": "character varying",
    "time": "time without time zone",
    "timestamptz": "timestamp with time zone",
}
_PLATFORM_IS_AT_ITS_FIRST = (
    "SELECT count(*) FILTER (WHERE name = '0001_initial') = 1 AND count(*) FILTER (WHERE name LIKE '0002%') = 0"
    " FROM django_migrations WHERE app = 'appointments'"
)


def refuse_unknown_tables(steps: OnlineSteps) -> None:
    """Raise `UpgradeRefused` if an existing table of one of our names is not supported."""
    found = _found(steps)
    wrong = [
        problem for table in _TABLES if found[table] for problem in _problems(steps, table, found[table])
    ]
    if wrong:
        raise UpgradeRefused("; ".join(wrong))


def upgrade(steps: OnlineSteps) -> None:
    found = _found(steps)
    for table, columns in _TABLES.items():
        if not found[table]:
            body = ", ".join(f"{name} {definition}" for name, definition in columns.items())
            steps.run(f"CREATE TABLE {table} ({body}{_CONSTRAINTS.get(table, '')})")
    if found["appointments"] and "duration_seconds" not in found["appointments"]:
        _add_duration_seconds(steps)
    for (name,) in steps.rows(_FOREIGN_KEYS):
        steps.run(f'ALTER TABLE appointment_history DROP CONSTRAINT "{name}"')


def _found(steps: OnlineSteps) -> dict[str, dict[str, str]]:
    """Return the columns and types of each table; no columns if there is no such table."""
    return {table: dict(steps.rows(_COLUMNS_FOUND, table=table)) for table in _TABLES}


def _add_duration_seconds(steps: OnlineSteps) -> None:
    statements = ["ALTER TABLE appointments ADD COLUMN duration_seconds integer NOT NULL DEFAULT 0"]
    if steps.exists("django_migrations") and steps.query(_PLATFORM_IS_AT_ITS_FIRST):
        statements.append(
            "INSERT INTO django_migrations (app, name, applied)"
            " VALUES ('appointments', '0002_appointment_duration_seconds', now())"
        )
    steps.run(*statements)


def _problems(steps: OnlineSteps, table: str, found: dict[str, str]) -> Iterator[str]:
    """Yield the unsupported properties of an existing table."""
    kind_of_table = steps.query(_KIND_OF_TABLE, table=table)
    if kind_of_table in _OTHER_KINDS:
        yield f"{table} is {_OTHER_KINDS[kind_of_table]}; the upgrade can adopt ordinary tables only"
        return
    columns = _TABLES[table]
    for name, definition in columns.items():
        kind = _kind(definition)
        if name == "duration_seconds" and name not in found:
            continue
        if found.get(name) not in {kind, "text" if kind == "character varying" else kind}:
            yield f"{table}.{name} is {found.get(name, 'missing')}, needed is {kind}"
    for (name,) in steps.rows(_MUST_BE_FILLED, table=table):
        if name not in columns:
            yield f"{table}.{name} is unknown here and must not be empty"


def _kind(definition: str) -> str:
    kind = re.match(r"\w+", definition)
    name = kind[0] if kind else definition
    return _SPELLINGS.get(name, name)
