"""Add constraints for the rules about single rows.

An adopted database may have rows that break a rule. They must stay readable and updatable: an employee must be
able to cancel an appointment of 0 minutes. `CHECK … NOT VALID` alone would ignore old rows only until they are
updated. Then PostgreSQL checks the whole row, also the columns that the update does not change, and the
cancellation fails.

So, if rows break a rule, its constraint binds only later rows: appointments with a `created_at` after that of the
last row that breaks the rule, and time slots on a later `date`. The service never changes `created_at`, and checks
a slot again that is moved to another date. The service still enforces the rules for rows that are not bound here,
since it checks every change under its locks; the constraints are the second check. If no row breaks a rule, its
constraint binds all rows. Each exemption is in the comment of its constraint.

A constraint is added without checking the rows, which takes a moment, and validated afterwards, while others
write. The validation finds a row that broke the rule in between, and the constraint is then created again.

Capacity and the customer's 30 minutes are rules about many rows, which no constraint can express; the rule about
the employee's time is in `servease_appt.db.migrations.employee_times`.
"""

from sqlalchemy.exc import IntegrityError

from servease_appt.db.online import OnlineSteps

revision = "v3"
down_revision = "v2"

CHECKS = {
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

_FOUND = "SELECT convalidated FROM pg_constraint WHERE conrelid = to_regclass(:table) AND conname = :name"
_ATTEMPTS = 5


def upgrade(steps: OnlineSteps) -> None:
    for table, rules in CHECKS.items():
        for name, rule in rules.items():
            if steps.query(_FOUND, table=table, name=name) is not True:
                _constrain(steps, table, name, rule)


def _constrain(steps: OnlineSteps, table: str, name: str, rule: str) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        _add(steps, table, name, rule)
        try:
            steps.scan(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")
        except IntegrityError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _add(steps: OnlineSteps, table: str, name: str, rule: str) -> None:
    column, kind = _BOUND_BY[table]
    last = None
    if not steps.dry_run:  # in a dry run the columns may not exist yet
        last = steps.query(f"SELECT quote_literal(max({column})::text) FROM {table} WHERE NOT ({rule})")  # noqa: S608
    exempt = f" OR {column} <= {kind} {last}" if last else ""
    statements = [
        f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}",
        f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({rule}{exempt}) NOT VALID",
    ]
    if last:
        note = f"does not bind rows with {column} up to {last}".replace("'", "''")
        statements.append(f"COMMENT ON CONSTRAINT {name} ON {table} IS '{note}'")
    steps.run(*statements)
