"""Keep the numbers that a page of the list needs: how many there are, and on which day a page begins.

`count(*)` and `OFFSET` walk over what they pass by, so a page of a million appointments costs hundreds of times
one of a thousand. Here triggers keep the number of appointments of each day, each 32 days and each 1,024 days, by
status, by type, by both and in all. Adding up the largest buckets gives the count; going down through them, 32 at
a time, finds the day in which the wanted row lies, and only within that day rows are passed by.

A writer only ever inserts what changed into `appointment_count_changes`: it waits for nobody, and nobody for it,
so the counts add no lock and no deadlock to whoever writes to `appointments`, the platform's other services
included. Readers add the changes up with the counts. Both commit with the rows that they count, so what a
statement sees of them is true of the rows that it sees. One writer in 64, and whoever changes that much at once,
folds the changes that have piled up into the counts, unless another one is at it, or its transaction sees an older
state of things than now.

What PostgreSQL does without triggers (a restore with triggers turned off) is put right by
`SELECT appointment_counts_rebuild()`.
"""

from alembic import op
from sqlalchemy import text

revision = "v4"
down_revision = "v3"

_TABLES = """
    CREATE TABLE appointment_counts (
        level smallint NOT NULL,
        bucket integer NOT NULL,
        status varchar(20) NOT NULL,
        appointment_type varchar(50) NOT NULL,
        number bigint NOT NULL,
        PRIMARY KEY (level, status, appointment_type, bucket)
    ) WITH (fillfactor = 70);
    COMMENT ON TABLE appointment_counts IS
        'Appointments in each 32 ^ level days since 2000-01-01, by status and type; * stands for all';

    CREATE TABLE appointment_count_changes (
        day integer NOT NULL,
        status varchar(20) NOT NULL,
        appointment_type varchar(50) NOT NULL,
        number bigint NOT NULL
    );
    COMMENT ON TABLE appointment_count_changes IS 'What has yet to be added to appointment_counts';

    CREATE SEQUENCE appointment_count_turns CYCLE;
    CREATE INDEX IF NOT EXISTS appointments_type_listed_idx
        ON appointments (appointment_type, scheduled_date DESC, scheduled_time DESC, id);
"""

_INTO_COUNTS = """
    SELECT level, day >> (5 * level), coalesce(status, '*'), coalesce(appointment_type, '*'), sum(number)
    FROM changes, generate_series(0, 2) AS level
    GROUP BY level, day >> (5 * level), CUBE (status, appointment_type)
    HAVING sum(number) <> 0
"""

_FOLD = f"""
    CREATE FUNCTION appointment_counts_fold() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $body$
    BEGIN
        -- An older snapshot would find changes that are folded already, and fail on them.
        IF current_setting('transaction_isolation') <> 'read committed'
            OR NOT pg_try_advisory_xact_lock(hashtextextended('appointment_counts', 0))
        THEN
            RETURN;
        END IF;
        WITH changes AS (DELETE FROM appointment_count_changes RETURNING *)
        INSERT INTO appointment_counts (level, bucket, status, appointment_type, number) {_INTO_COUNTS}
        ON CONFLICT (level, status, appointment_type, bucket)
            DO UPDATE SET number = appointment_counts.number + excluded.number;
    END
    $body$
"""  # noqa: S608 - constants of this file

_CHANGED = """
    CREATE FUNCTION appointment_counts_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
    DECLARE
        changes bigint := 0;
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            TRUNCATE appointment_counts, appointment_count_changes;
            RETURN NULL;
        ELSIF TG_OP = 'INSERT' THEN
            INSERT INTO appointment_count_changes
            SELECT scheduled_date - DATE '2000-01-01', status, appointment_type, count(*)
            FROM new_rows GROUP BY 1, 2, 3;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO appointment_count_changes
            SELECT scheduled_date - DATE '2000-01-01', status, appointment_type, -count(*)
            FROM old_rows GROUP BY 1, 2, 3;
        ELSE
            INSERT INTO appointment_count_changes
            SELECT scheduled_date - DATE '2000-01-01', status, appointment_type, sum(number) FROM (
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
"""

_TRIGGERS = {
    "inserted": "INSERT ON appointments REFERENCING NEW TABLE AS new_rows",
    "updated": "UPDATE ON appointments REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "deleted": "DELETE ON appointments REFERENCING OLD TABLE AS old_rows",
    "truncated": "TRUNCATE ON appointments",
}

_REBUILD = f"""
    CREATE FUNCTION appointment_counts_rebuild() RETURNS void
    LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $body$
    BEGIN
        LOCK TABLE appointments IN SHARE MODE;
        TRUNCATE appointment_counts, appointment_count_changes;
        WITH changes AS (
            SELECT scheduled_date - DATE '2000-01-01' AS day, status, appointment_type, count(*) AS number
            FROM appointments GROUP BY 1, 2, 3
        )
        INSERT INTO appointment_counts (level, bucket, status, appointment_type, number) {_INTO_COUNTS};
    END
    $body$
"""  # noqa: S608

_LATER = """
    CREATE FUNCTION appointments_later_than(of_status text, of_type text, a_date date) RETURNS bigint
    LANGUAGE plpgsql STABLE AS $body$
    DECLARE
        this integer := a_date - DATE '2000-01-01';
    BEGIN
        RETURN (
            SELECT coalesce(sum(number), 0) FROM (
                SELECT number FROM appointment_counts
                WHERE level = 2 AND status = coalesce(of_status, '*') AND appointment_type = coalesce(of_type, '*')
                    AND bucket > this >> 10
                UNION ALL
                SELECT number FROM appointment_counts
                WHERE level = 1 AND status = coalesce(of_status, '*') AND appointment_type = coalesce(of_type, '*')
                    AND bucket > this >> 5 AND bucket < ((this >> 10) + 1) << 5
                UNION ALL
                SELECT number FROM appointment_counts
                WHERE level = 0 AND status = coalesce(of_status, '*') AND appointment_type = coalesce(of_type, '*')
                    AND bucket > this AND bucket < ((this >> 5) + 1) << 5
                UNION ALL
                SELECT number FROM appointment_count_changes
                WHERE (of_status IS NULL OR status = of_status)
                    AND (of_type IS NULL OR appointment_type = of_type) AND day > this
            ) AS parts
        );
    END
    $body$
"""

_PLACE = """
    CREATE FUNCTION appointments_place(
        of_status text, of_type text, from_date date, to_date date, skipped bigint,
        OUT total bigint, OUT up_to date, OUT skipped_of_day bigint
    )
    LANGUAGE plpgsql STABLE AS $body$
    DECLARE
        later bigint := 0;
        part record;
        low integer := -2147483648;
        high integer := 2147483647;
    BEGIN
        IF to_date IS NOT NULL THEN
            later := appointments_later_than(of_status, of_type, to_date);
        END IF;
        total := appointments_later_than(
            of_status, of_type, coalesce(from_date - 1, DATE '4713-01-01 BC')
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
                    WHERE level = step AND status = coalesce(of_status, '*')
                        AND appointment_type = coalesce(of_type, '*') AND bucket BETWEEN low AND high
                    UNION ALL
                    SELECT day >> (5 * step), number FROM appointment_count_changes
                    WHERE (of_status IS NULL OR status = of_status)
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
        up_to := DATE '2000-01-01' + part.this;
    END
    $body$
"""


def upgrade() -> None:
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute("LOCK TABLE appointments IN SHARE ROW EXCLUSIVE MODE")
    op.execute(_TABLES)
    for function in (_FOLD, _CHANGED, _REBUILD, _LATER, _PLACE):
        op.execute(function.format(schema=schema))
    for name, event in _TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER appointment_counts_{name} AFTER {event}"
            " FOR EACH STATEMENT EXECUTE FUNCTION appointment_counts_changed()"
        )
    op.execute("SELECT appointment_counts_rebuild()")
