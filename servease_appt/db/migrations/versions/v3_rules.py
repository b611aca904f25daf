"""Let the tables themselves hold the rules that a table can hold, for every row made under them.

An adopted database may have rows that break a rule. They must stay, be readable, and stay workable: an employee
must be able to cancel an appointment of 0 minutes. `CHECK … NOT VALID` alone would pass over old rows only
until they are updated; then the whole row is checked, also the columns that the update leaves alone, and the
cancellation fails.

So, where rows break a rule, its constraint binds only those made after them: for appointments those with a
`created_at` later than that of the last row that breaks the rule, for time slots those on a later `date`. The
service never changes `created_at`, and judges a slot that is moved to another date anew. What is not bound here
is still held to the rules by the service, which checks every change under its locks; the constraints are the
second line. Where no row breaks a rule, its constraint binds all rows. Each exemption is written into the
comment of its constraint.

A constraint is added without looking at the rows, which takes a moment, and looks at them afterwards, while others
write. A row that breaks the rule and came in between is found then, and the constraint made anew.

Capacity and the customer's 30 minutes are rules about many rows at a moment that no constraint can express; the
employee's time is in `servease_appt.db.migrations.employee_times`.
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
    if not steps.dry_run:  # in a dry run there may not be such columns yet
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
