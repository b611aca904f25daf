"""Let the tables themselves hold the rules that a table can hold, for every row made under them.

An adopted database may have rows that break a rule. They must stay, be readable, and stay workable: an employee
must be able to cancel an appointment of 0 minutes. That rules out the two usual ways:

* `CHECK … NOT VALID` passes over old rows only until they are updated; then the whole row is checked, also the
  columns that the update leaves alone, and the cancellation fails.
* `EXCLUDE` can't be made at all while two rows contradict it.

So, where rows break a rule, its constraint binds only those made after them: for appointments those with a
`created_at` later than that of the last row that breaks the rule, for time slots those on a later `date`. No
offender is bound, so none can be in the way of an update; two appointments can contradict the EXCLUDE only if
both are bound, so it is enough that the later one (by start) of every overlapping pair is not. The service
never changes `created_at`, and judges a slot that is moved to another date anew. What is not bound here is
still held to the rules by the service, which checks every change under its locks; the constraints are the
second line. Where no row breaks a rule, its constraint binds all rows. Each exemption is written into the
comment of its constraint.

Capacity and the customer's 30 minutes are rules about many rows at a moment that no constraint can express.

The EXCLUDE needs equality on a uuid in a GiST index, which PostgreSQL has only with an extension that a managed
server may not offer; a range type over uuid gives the same with plain PostgreSQL.
"""

from alembic import op
from sqlalchemy import text

revision = "v3"
down_revision = "v2"

_CHECKS = {
    "appointments": {
        "appointments_known_status": (
            "status IN ('pending', 'confirmed', 'in_progress', 'completed', 'cancelled', 'no_show')"
        ),
        "appointments_known_type": (
            "appointment_type IN ('maintenance', 'repair', 'inspection', 'diagnostic', 'emergency')"
        ),
        "appointments_duration_in_range": "duration_minutes BETWEEN 1 AND 10080",
        "appointments_work_time_not_negative": "duration_seconds >= 0",
        "appointments_cost_not_negative": "estimated_cost >= 0",
    },
    "time_slots": {
        "time_slots_end_after_start": "end_time > start_time OR end_time = TIME '00:00'",
        "time_slots_capacity_not_negative": "max_concurrent_appointments >= 0",
    },
}
_BOUND_BY = {"appointments": ("created_at", "TIMESTAMPTZ"), "time_slots": ("date", "DATE")}

_START = "scheduled_date + scheduled_time"
_END = f"{_START} + duration_minutes * INTERVAL '1 minute'"
_BUSY = "assigned_employee_id IS NOT NULL AND status IN ('confirmed', 'in_progress') AND duration_minutes > 0"
_LAST_DOUBLE_BOOKING = f"""
    SELECT quote_literal(max(created_at)::text) FROM (
        SELECT created_at, {_START} AS starts, max({_END}) OVER (
            PARTITION BY assigned_employee_id ORDER BY {_START}, id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS busy_until
        FROM appointments WHERE {_BUSY}
    ) AS booked WHERE starts < busy_until
"""  # noqa: S608 - constants of this file


def upgrade() -> None:
    for table, rules in _CHECKS.items():
        column, kind = _BOUND_BY[table]
        for name, rule in rules.items():
            last = _scalar(f"SELECT quote_literal(max({column})::text) FROM {table} WHERE NOT ({rule})")  # noqa: S608
            exempt = f" OR {column} <= {kind} {last}" if last else ""
            op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({rule}{exempt})")
            _say(table, name, f"{column} up to {last}" if last else None)

    if _scalar("SELECT to_regtype('appointment_uuid_range')::text") is None:
        op.execute("CREATE TYPE appointment_uuid_range AS RANGE (subtype = uuid)")
    last = _scalar(_LAST_DOUBLE_BOOKING)
    bound = f" AND created_at > TIMESTAMPTZ {last}" if last else ""
    op.execute(f"""
        ALTER TABLE appointments ADD CONSTRAINT appointments_employee_not_double_booked EXCLUDE USING gist (
            appointment_uuid_range(assigned_employee_id, assigned_employee_id, '[]') WITH &&,
            tsrange({_START}, {_END}) WITH &&
        ) WHERE ({_BUSY}{bound})
    """)
    _say(
        "appointments",
        "appointments_employee_not_double_booked",
        f"created_at up to {last}" if last else None,
    )


def _scalar(statement: str) -> str | None:
    value: str | None = op.get_bind().execute(text(statement)).scalar()
    return value


def _say(table: str, constraint: str, exempt: str | None) -> None:
    """Leave a note for whoever looks at the constraint, and for `db upgrade` to show."""
    if exempt is not None:
        note = f"does not bind rows with {exempt}".replace("'", "''")
        op.execute(f"COMMENT ON CONSTRAINT {constraint} ON {table} IS '{note}'")
