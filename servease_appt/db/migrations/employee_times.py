"""The table that lets PostgreSQL refuse overlapping appointments of one employee.

An exclusion constraint can't be added to a table while others write: PostgreSQL builds its index under a lock that
blocks writers, for seconds with a million rows. So the times at which employees are busy are in a separate table,
which a trigger maintains. The constraint is created there while that table is empty.

Older rows that overlap others are not copied to it. They can be updated, and the rule applies to them once their
employee or time changes. The trigger acts only on such changes, so that starting or editing such a row works. The
service checks the rule under its own locks; this is the second check, for all other writers.

The constraint needs equality on a uuid in a GiST index. PostgreSQL supports that only with an extension that a
managed server may not offer; a range type over uuid does the same without one.
"""

from typing import Final

from servease_appt.db.online import OnlineSteps

CONSTRAINT: Final = "appointments_employee_not_double_booked"

_BATCH: Final = 500

_BUSY: Final = (
    "{row}assigned_employee_id IS NOT NULL AND {row}status IN ('confirmed', 'in_progress')"
    " AND {row}duration_minutes > 0 AND {row}scheduled_date BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'"
)
_DURING: Final = (
    "tsrange({row}scheduled_date + {row}scheduled_time,"
    " {row}scheduled_date + {row}scheduled_time + {row}duration_minutes * INTERVAL '1 minute')"
)


def _of(row: str, sql: str) -> str:
    return sql.replace("{row}", row)


_TABLE: Final = f"""
    CREATE TABLE appointment_employee_times (
        appointment_id uuid PRIMARY KEY,
        employee_id uuid NOT NULL,
        during tsrange NOT NULL,
        CONSTRAINT {CONSTRAINT} EXCLUDE USING gist (
            appointment_uuid_range(employee_id, employee_id, '[]') WITH &&, during WITH &&
        )
    )
"""
_FUNCTION: Final = f"""
    CREATE OR REPLACE FUNCTION appointment_employee_times_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $body$
    DECLARE
        was_busy boolean := TG_OP <> 'INSERT';
        is_busy boolean := TG_OP <> 'DELETE';
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            TRUNCATE appointment_employee_times;
            RETURN NULL;
        END IF;
        was_busy := was_busy AND coalesce({_of("OLD.", _BUSY)}, false);
        is_busy := is_busy AND coalesce({_of("NEW.", _BUSY)}, false);
        IF was_busy AND is_busy AND OLD.assigned_employee_id = NEW.assigned_employee_id
            AND OLD.id = NEW.id AND {_of("OLD.", _DURING)} = {_of("NEW.", _DURING)}
        THEN
            RETURN NULL;
        END IF;
        IF was_busy THEN
            DELETE FROM appointment_employee_times WHERE appointment_id = OLD.id;
        END IF;
        IF is_busy THEN
            INSERT INTO appointment_employee_times
            VALUES (NEW.id, NEW.assigned_employee_id, {_of("NEW.", _DURING)});
        END IF;
        RETURN NULL;
    END
    $body$
"""  # noqa: S608 - constants
_ROW_EVENT: Final = (
    "INSERT OR DELETE OR UPDATE OF id, assigned_employee_id, status, scheduled_date, scheduled_time,"
    " duration_minutes"
)
_ACTION: Final = "EXECUTE FUNCTION appointment_employee_times_changed()"
_OLD_CONSTRAINT: Final = (
    "SELECT count(*) FROM pg_constraint WHERE conrelid = to_regclass('appointments')"  # noqa: S608
    f" AND conname = '{CONSTRAINT}'"
)

_NEXT: Final = f"""
    SELECT id::text FROM appointments WHERE {_of("", _BUSY)} AND id > CAST(:after AS uuid)
    ORDER BY id LIMIT {_BATCH}
"""  # noqa: S608
# Without the lock a change between reading and writing would be lost.
_COPY: Final = f"""
    WITH locked AS (
        SELECT id, assigned_employee_id, {_of("", _DURING)} AS during FROM appointments
        WHERE id = ANY ('{{{{ids}}}}'::uuid[]) AND {_of("", _BUSY)} FOR NO KEY UPDATE
    )
    INSERT INTO appointment_employee_times SELECT * FROM locked ON CONFLICT DO NOTHING
"""  # noqa: S608
_LEFT_OUT: Final = f"""
    SELECT count(*) FROM appointments AS a WHERE {_of("a.", _BUSY)}
        AND NOT EXISTS (SELECT FROM appointment_employee_times AS t WHERE t.appointment_id = a.id)
"""  # noqa: S608
_TO_BE_COPIED: Final = "When employees are busy; not yet copied in full"
_UNFINISHED: Final = (
    "SELECT obj_description(to_regclass('appointment_employee_times'), 'pg_class')"  # noqa: S608
    f" IS NOT DISTINCT FROM '{_TO_BE_COPIED}'"
)
_STALE: Final = f"""
    FROM appointment_employee_times AS t WHERE NOT EXISTS (
        SELECT FROM appointments AS a WHERE a.id = t.appointment_id AND {_of("a.", _BUSY)}
            AND a.assigned_employee_id = t.employee_id AND {_of("a.", _DURING)} = t.during
    )
"""
_FORGET: Final = f"DELETE {_STALE}"
# More rows left out than at the last copy: some rows were written without the trigger.
_DIFFERS: Final = f"""
    SELECT ({_LEFT_OUT}) > coalesce((
            SELECT substring(obj_description(oid, 'pg_constraint') FROM '[0-9]+')::bigint FROM pg_constraint
            WHERE conname = '{CONSTRAINT}' AND conrelid = to_regclass('appointment_employee_times')
        ), 0) OR EXISTS (SELECT {_STALE})
"""  # noqa: S608
_BEFORE_ALL: Final = "00000000-0000-0000-0000-000000000000"


def install(steps: OnlineSteps) -> None:
    """Create the table and its triggers if they are missing, and copy the times of existing appointments."""
    if steps.query("SELECT to_regtype('appointment_uuid_range')::text") is None:
        steps.run("CREATE TYPE appointment_uuid_range AS RANGE (subtype = uuid)")
    if steps.query(_OLD_CONSTRAINT):
        # An earlier version had it on `appointments`; the new table gets an index of the same name.
        steps.run(f"ALTER TABLE appointments DROP CONSTRAINT {CONSTRAINT}")
    if not steps.exists("appointment_employee_times"):
        steps.run(_TABLE, f"COMMENT ON TABLE appointment_employee_times IS '{_TO_BE_COPIED}'")
    steps.function("appointment_employee_times_changed", _FUNCTION)
    steps.trigger("appointment_employee_times_truncated", "TRUNCATE", f"FOR EACH STATEMENT {_ACTION}")
    steps.trigger("appointment_employee_times_changed", _ROW_EVENT, f"FOR EACH ROW {_ACTION}")
    if not steps.exists("appointment_employee_times") or steps.query(_UNFINISHED) or steps.query(_DIFFERS):
        _copy(steps)


def remove(steps: OnlineSteps) -> None:
    """Drop everything that `install` created."""
    if steps.exists("appointments"):
        steps.run(
            "DROP TRIGGER IF EXISTS appointment_employee_times_changed ON appointments",
            "DROP TRIGGER IF EXISTS appointment_employee_times_truncated ON appointments",
        )
    steps.run(
        "DROP FUNCTION IF EXISTS appointment_employee_times_changed()",
        "DROP TABLE IF EXISTS appointment_employee_times",
        "DROP TYPE IF EXISTS appointment_uuid_range",
    )


def _copy(steps: OnlineSteps) -> None:
    if steps.dry_run:
        steps.planned.append("copy the times at which employees are busy, 500 at a time")
        return
    steps.run(_FORGET)
    after = _BEFORE_ALL
    while ids := [row_id for (row_id,) in steps.rows(_NEXT, after=after)]:
        steps.run(_COPY.replace("{ids}", ",".join(ids)))
        after = ids[-1]
    left_out = steps.query(_LEFT_OUT)
    note = f"'does not bind {left_out} rows that overlap others, as long as they stay as they are'"
    steps.run(
        f"COMMENT ON CONSTRAINT {CONSTRAINT} ON appointment_employee_times IS {note if left_out else 'NULL'}",
        "COMMENT ON TABLE appointment_employee_times IS 'When employees are busy'",
    )
