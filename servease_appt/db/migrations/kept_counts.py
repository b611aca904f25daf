"""The tables, functions and triggers that keep the counts for the pages of the list.

`count(*)` and `OFFSET` read every row that they skip, so a page of a million appointments costs hundreds of times
as much as one of a thousand. Here triggers keep the number of appointments of each day, each 32 days and each
1,024 days, by status, by type, by both and in total. The sum of the largest buckets is the count. A search down
through the levels, 32 buckets at a time, finds the day of the wanted row, and only rows of that day are skipped.

A writer only inserts its changes into `appointment_count_changes`. It waits for no other transaction and none
waits for it, so the counts add no lock and no deadlock to the writers of `appointments`, including the platform's
other services. Readers add the changes to the counts. Both commit with the rows that they count, so a statement
sees counts that match the rows that it sees. One writer in 64, and each writer with at least 64 changes, folds the
pending changes into the counts, unless another one is doing so or its transaction has an older snapshot. Each
worker of the service also folds them periodically.

Any row that the platform can store is counted. `*` stands for all, so a status or type that begins with `*` is
stored with another `*` before it. A date outside of the calendar is counted with the first or the last day.

The statement triggers count the writes of sessions. Logical replication fires no statement triggers except those
of TRUNCATE, so a row trigger, which other sessions do not fire, counts its changes. Writes that no trigger sees (a
restore with triggers turned off, or one that includes the counts) are found and repaired by
`servease_appt.db.kept_counts`.
"""

from typing import Final

from servease_appt.db.kept_counts import DAY, INTO_COUNTS, LAST_DAY
from servease_appt.db.online import Firing, OnlineSteps

_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS appointment_counts (
        level smallint NOT NULL,
        bucket integer NOT NULL,
        status text NOT NULL,
        appointment_type text NOT NULL,
        number bigint NOT NULL,
        PRIMARY KEY (level, status, appointment_type, bucket)
    ) WITH (fillfactor = 70)
    """,
    """
    COMMENT ON TABLE appointment_counts IS
        'Appointments in each 32 ^ level days since 2000-01-01, by status and type; * stands for all'
    """,
    """
    CREATE TABLE IF NOT EXISTS appointment_count_changes (
        day integer NOT NULL,
        status text NOT NULL,
        appointment_type text NOT NULL,
        number bigint NOT NULL
    )
    """,
    "COMMENT ON TABLE appointment_count_changes IS 'What has yet to be added to appointment_counts'",
    "CREATE SEQUENCE IF NOT EXISTS appointment_count_turns CYCLE",
)
_AS_TEXT: Final = "ALTER COLUMN status TYPE text, ALTER COLUMN appointment_type TYPE text"
_NARROW: Final = (
    "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attname = 'status'"
    " AND atttypid <> 'text'::regtype"
)

_FOLD: Final = f"""
    CREATE OR REPLACE FUNCTION appointment_counts_fold() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $body$
    BEGIN
        -- An older snapshot would find changes that are folded already, and fail on them.
        IF current_setting('transaction_isolation') <> 'read committed'
            OR NOT pg_try_advisory_xact_lock(hashtextextended('appointment_counts', 0))
        THEN
            RETURN;
        END IF;
        WITH changes AS (DELETE FROM appointment_count_changes RETURNING *)
        INSERT INTO appointment_counts (level, bucket, status, appointment_type, number) {INTO_COUNTS}
        ON CONFLICT (level, status, appointment_type, bucket)
            DO UPDATE SET number = appointment_counts.number + excluded.number;
    END
    $body$
"""  # noqa: S608 - constants

_KEY: Final = f"{DAY}, coalesce(status, ''), coalesce(appointment_type, '')"
_CHANGED: Final = f"""
    CREATE OR REPLACE FUNCTION appointment_counts_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $body$
    DECLARE
        changes bigint := 0;
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            TRUNCATE appointment_counts, appointment_count_changes;
            RETURN NULL;
        ELSIF TG_OP = 'INSERT' THEN
            INSERT INTO appointment_count_changes SELECT {_KEY}, count(*) FROM new_rows GROUP BY 1, 2, 3;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO appointment_count_changes SELECT {_KEY}, -count(*) FROM old_rows GROUP BY 1, 2, 3;
        ELSE
            INSERT INTO appointment_count_changes
            SELECT {_KEY}, sum(number) FROM (
                SELECT scheduled_date, status, appointment_type, 1 AS number FROM new_rows
                UNION ALL
                SELECT scheduled_date, status, appointment_type, -1 FROM old_rows
            ) AS both_rows GROUP BY 1, 2, 3 HAVING sum(number) <> 0;
        END IF;
        GET DIAGNOSTICS changes = ROW_COUNT;
        IF changes >= 64 OR changes > 0 AND nextval('appointment_count_turns') % 64 = 0 THEN
            PERFORM appointment_counts_fold();
        END IF;
        RETURN NULL;
    END
    $body$
"""  # noqa: S608

_REPLICATED: Final = f"""
    CREATE OR REPLACE FUNCTION appointment_counts_replicated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $body$
    BEGIN
        -- A restore that turns all triggers off and on again has this one fire for every session.
        IF current_setting('session_replication_role') <> 'replica' THEN
            RETURN NULL;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            INSERT INTO appointment_count_changes SELECT {_KEY}, -1 FROM (SELECT OLD.*) AS old_row;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO appointment_count_changes SELECT {_KEY}, 1 FROM (SELECT NEW.*) AS new_row;
        END IF;
        RETURN NULL;
    END
    $body$
"""  # noqa: S608

_LATER: Final = """
    CREATE OR REPLACE FUNCTION appointments_later_than_any(of_statuses text[], of_type text, a_date date)
    RETURNS bigint LANGUAGE plpgsql STABLE AS $body$
    DECLARE
        this integer := a_date - DATE '2000-01-01';
        kept_as text[] := coalesce(of_statuses, '{*}');
    BEGIN
        RETURN (
            SELECT coalesce(sum(number), 0) FROM (
                SELECT number FROM appointment_counts
                WHERE level = 2 AND status = ANY (kept_as) AND appointment_type = coalesce(of_type, '*')
                    AND bucket > this >> 10
                UNION ALL
                SELECT number FROM appointment_counts
                WHERE level = 1 AND status = ANY (kept_as) AND appointment_type = coalesce(of_type, '*')
                    AND bucket > this >> 5 AND bucket < ((this >> 10) + 1) << 5
                UNION ALL
                SELECT number FROM appointment_counts
                WHERE level = 0 AND status = ANY (kept_as) AND appointment_type = coalesce(of_type, '*')
                    AND bucket > this AND bucket < ((this >> 5) + 1) << 5
                UNION ALL
                SELECT number FROM appointment_count_changes
                WHERE (of_statuses IS NULL OR status = ANY (of_statuses))
                    AND (of_type IS NULL OR appointment_type = of_type) AND day > this
            ) AS parts
        );
    END
    $body$
"""

_PLACE: Final = """
    CREATE OR REPLACE FUNCTION appointments_place_any(
        of_statuses text[], of_type text, from_date date, to_date date, skipped bigint,
        OUT total bigint, OUT up_to date, OUT skipped_of_day bigint
    )
    LANGUAGE plpgsql STABLE AS $body$
    DECLARE
        kept_as text[] := coalesce(of_statuses, '{*}');
        later bigint := 0;
        part record;
        low integer := -2147483648;
        high integer := 2147483647;
    BEGIN
        IF to_date IS NOT NULL THEN
            later := appointments_later_than_any(of_statuses, of_type, to_date);
        END IF;
        total := appointments_later_than_any(
            of_statuses, of_type, coalesce(from_date - 1, DATE '4713-01-01 BC')
        ) - later;
        IF skipped >= total THEN
            RETURN;
        END IF;
        up_to := coalesce(to_date, 'infinity');
        skipped_of_day := skipped;
        IF skipped = 0 THEN
            RETURN;
        END IF;
        skipped_of_day := skipped + later;
        FOR step IN REVERSE 2..0 LOOP
            FOR part IN
                SELECT sum(number) AS number, bucket AS this FROM (
                    SELECT bucket, number FROM appointment_counts
                    WHERE level = step AND status = ANY (kept_as)
                        AND appointment_type = coalesce(of_type, '*') AND bucket BETWEEN low AND high
                    UNION ALL
                    SELECT day >> (5 * step), number FROM appointment_count_changes
                    WHERE (of_statuses IS NULL OR status = ANY (of_statuses))
                        AND (of_type IS NULL OR appointment_type = of_type)
                        AND day >> (5 * step) BETWEEN low AND high
                ) AS parts GROUP BY bucket ORDER BY bucket DESC
            LOOP
                EXIT WHEN skipped_of_day < part.number;
                skipped_of_day := skipped_of_day - part.number;
            END LOOP;
            IF step > 0 THEN
                low := part.this << 5;
                high := low + 31;
            END IF;
        END LOOP;
        -- The last bucket holds all that is later, infinity included.
        up_to := CASE WHEN part.this >= {last_day} THEN DATE 'infinity' ELSE DATE '2000-01-01' + part.this END;
    END
    $body$
"""

# For services of an earlier version, which go on while the tables are upgraded.
_LATER_THAN_ONE: Final = """
    CREATE OR REPLACE FUNCTION appointments_later_than(of_status text, of_type text, a_date date) RETURNS bigint
    LANGUAGE plpgsql STABLE AS $body$
    BEGIN
        RETURN appointments_later_than_any(
            CASE WHEN of_status IS NOT NULL THEN ARRAY[of_status] END, of_type, a_date
        );
    END
    $body$
"""
_PLACE_OF_ONE: Final = """
    CREATE OR REPLACE FUNCTION appointments_place(
        of_status text, of_type text, from_date date, to_date date, skipped bigint,
        OUT total bigint, OUT up_to date, OUT skipped_of_day bigint
    )
    LANGUAGE plpgsql STABLE AS $body$
    BEGIN
        SELECT * INTO total, up_to, skipped_of_day FROM appointments_place_any(
            CASE WHEN of_status IS NOT NULL THEN ARRAY[of_status] END, of_type, from_date, to_date, skipped
        );
    END
    $body$
"""

_TRIGGERS: Final = {
    "appointment_counts_inserted": ("INSERT", "REFERENCING NEW TABLE AS new_rows", Firing.ORIGIN),
    "appointment_counts_updated": (
        "UPDATE",
        "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
        Firing.ORIGIN,
    ),
    "appointment_counts_deleted": ("DELETE", "REFERENCING OLD TABLE AS old_rows", Firing.ORIGIN),
    "appointment_counts_truncated": ("TRUNCATE", "", Firing.ALWAYS),
}
_FUNCTIONS: Final = {
    "appointment_counts_fold": _FOLD,
    "appointment_counts_changed": _CHANGED,
    "appointment_counts_replicated": _REPLICATED,
    "appointments_later_than_any": _LATER,
    "appointments_place_any": _PLACE.replace("{last_day}", str(LAST_DAY)),
    "appointments_later_than": _LATER_THAN_ONE,
    "appointments_place": _PLACE_OF_ONE,
}
_FORMER_REBUILD: Final = "SELECT count(*) FROM pg_proc WHERE oid = to_regproc('appointment_counts_rebuild')"


def install(steps: OnlineSteps) -> None:
    """Create what is missing and update the functions. The counts themselves are computed afterwards."""
    if not (steps.exists("appointment_counts") and steps.exists("appointment_count_turns")):
        steps.run(*_TABLES)
    for table in ("appointment_counts", "appointment_count_changes"):
        if steps.query(_NARROW, table=table):
            steps.run(f"ALTER TABLE {table} {_AS_TEXT}")
    for name, definition in _FUNCTIONS.items():
        steps.function(name, definition)
    if steps.query(_FORMER_REBUILD):
        steps.run("DROP FUNCTION appointment_counts_rebuild()")
    for name, (event, tables, firing) in _TRIGGERS.items():
        action = f"{tables} FOR EACH STATEMENT EXECUTE FUNCTION appointment_counts_changed()"
        steps.trigger(name, event, action, firing)
    steps.trigger(
        "appointment_counts_replicated",
        "INSERT OR UPDATE OR DELETE",
        "FOR EACH ROW EXECUTE FUNCTION appointment_counts_replicated()",
        Firing.REPLICA,
    )


def remove(steps: OnlineSteps) -> None:
    """Drop everything that `install` created."""
    names = (*_TRIGGERS, "appointment_counts_replicated")
    if steps.exists("appointments"):
        steps.run(*(f"DROP TRIGGER IF EXISTS {name} ON appointments" for name in names))
    steps.run(
        "DROP FUNCTION IF EXISTS appointments_place(text, text, date, date, bigint)",
        "DROP FUNCTION IF EXISTS appointments_later_than(text, text, date)",
        "DROP FUNCTION IF EXISTS appointments_place_any(text[], text, date, date, bigint)",
        "DROP FUNCTION IF EXISTS appointments_later_than_any(text[], text, date)",
        "DROP FUNCTION IF EXISTS appointment_counts_changed()",
        "DROP FUNCTION IF EXISTS appointment_counts_replicated()",
        "DROP FUNCTION IF EXISTS appointment_counts_fold()",
        "DROP SEQUENCE IF EXISTS appointment_count_turns",
        "DROP TABLE IF EXISTS appointment_counts, appointment_count_changes",
    )
