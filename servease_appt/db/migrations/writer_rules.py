"""A trigger that enforces the rules about many rows for every writer of `appointments`.

The service checks capacity and the customer's 30 minutes under its own advisory locks. A writer without these
checks can oversell a time that the service checks at the same moment. This trigger takes the same locks and makes
the same checks. The service's own transactions set a flag that they have checked already, and skip it.

The lock numbers are a hash that PostgreSQL does not have, so a table has those of the days of this century. The
locks of the days are enough for both rules: two starts less than 30 minutes apart share a day with the half hour
before and after either. For other days this trigger enforces no rule.

It is off unless an operator turns it on. It refuses writes that the platform's services have been allowed so far.
And a writer that changes many appointments in one transaction takes the locks in its own order, so that PostgreSQL
may have to end a deadlock.

Only at READ COMMITTED, the default of PostgreSQL and Django, does a trigger see commits made while it waited.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

from servease_appt.db.online import OnlineSteps

NAME: Final = "appointment_writer_rules"

_OPEN: Final = "status IN ('pending', 'confirmed', 'in_progress')"
_START: Final = "scheduled_date + scheduled_time"
_END: Final = "scheduled_date + scheduled_time + duration_minutes * INTERVAL '1 minute'"
_FUNCTION: Final = f"""
    CREATE OR REPLACE FUNCTION {NAME}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $body$
    DECLARE
        default_capacity integer := TG_ARGV[0];
        starts timestamp;
        ends timestamp;
        first_day date;
        last_day date;
    BEGIN
        -- Lengths and dates beyond those that can be booked are rows from before, which keep to no rule.
        IF current_setting('servease.has_checked_rules', true) = 'on' OR NOT coalesce(
            NEW.{_OPEN} AND NEW.duration_minutes BETWEEN 1 AND 10080
            AND NEW.scheduled_date BETWEEN DATE '0001-01-02' AND DATE '9998-12-31', false)
        THEN
            RETURN NULL;
        END IF;
        IF TG_OP = 'UPDATE' AND OLD.{_OPEN} AND OLD.customer_id = NEW.customer_id
            AND OLD.scheduled_date = NEW.scheduled_date AND OLD.scheduled_time = NEW.scheduled_time
            AND OLD.duration_minutes = NEW.duration_minutes
        THEN
            RETURN NULL;
        END IF;
        starts := NEW.scheduled_date + NEW.scheduled_time;
        ends := starts + NEW.duration_minutes * INTERVAL '1 minute';
        first_day := starts::date;
        last_day := (ends - INTERVAL '1 microsecond')::date;

        PERFORM pg_advisory_xact_lock(number) FROM (
            SELECT number FROM appointment_day_locks
            WHERE day BETWEEN (starts - INTERVAL '30 minutes')::date
                AND greatest(last_day, (starts + INTERVAL '30 minutes')::date)
            ORDER BY number
        ) AS numbers;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;

        IF EXISTS (
            WITH running AS (
                SELECT {_START} AS starts_at, {_END} AS ends_at FROM appointments
                WHERE {_OPEN} AND scheduled_date BETWEEN first_day - 1 AND last_day AND duration_minutes <= 1440
                UNION ALL
                SELECT {_START}, {_END} FROM appointments
                WHERE {_OPEN} AND scheduled_date <= last_day AND duration_minutes > 1440 AND {_END} > starts
            ),
            windows AS (
                SELECT date + start_time AS opens_at,
                    date + CASE end_time WHEN '00:00' THEN TIME '24:00' ELSE end_time END AS closes_at,
                    CASE WHEN is_available THEN coalesce(max_concurrent_appointments, 0) ELSE 0 END AS capacity
                FROM time_slots WHERE date BETWEEN first_day AND last_day
            ),
            moments AS (
                SELECT starts AS moment UNION SELECT starts_at FROM running
                UNION SELECT opens_at FROM windows UNION SELECT closes_at FROM windows
            )
            SELECT FROM moments WHERE moment >= starts AND moment < ends
                AND (SELECT count(*) FROM running WHERE starts_at <= moment AND moment < ends_at) > coalesce(
                    (SELECT min(capacity) FROM windows WHERE opens_at <= moment AND moment < closes_at),
                    default_capacity)
        ) THEN
            RAISE EXCEPTION 'no room for an appointment from % to %', starts, ends
                USING ERRCODE = 'check_violation', CONSTRAINT = 'appointments_capacity', TABLE = 'appointments';
        END IF;
        IF EXISTS (
            SELECT FROM appointments WHERE customer_id = NEW.customer_id AND id <> NEW.id AND {_OPEN}
                AND scheduled_date BETWEEN first_day - 1 AND first_day + 1
                AND {_START} > starts - INTERVAL '30 minutes' AND {_START} < starts + INTERVAL '30 minutes'
        ) THEN
            RAISE EXCEPTION 'the customer has another appointment less than 30 minutes from %', starts
                USING ERRCODE = 'check_violation', CONSTRAINT = 'appointments_customer_gap',
                    TABLE = 'appointments';
        END IF;
        RETURN NULL;
    END
    $body$
"""  # noqa: S608 - constants
_CAPACITY: Final = (
    "SELECT split_part(encode(tgargs, 'escape'), '\\000', 1)::integer FROM pg_trigger"  # noqa: S608
    f" WHERE tgrelid = to_regclass('appointments') AND tgname = '{NAME}'"
)


def install(steps: OnlineSteps, default_capacity: int, day_locks: Mapping[date, int]) -> None:
    """Turn the trigger on, with this capacity where no slot is defined, and these lock numbers of days."""
    days = ",".join(day.isoformat() for day in day_locks)
    numbers = ",".join(map(str, day_locks.values()))
    steps.run(
        "CREATE TABLE IF NOT EXISTS appointment_day_locks (day date PRIMARY KEY, number bigint NOT NULL)",
        f"INSERT INTO appointment_day_locks SELECT * FROM unnest('{{{days}}}'::date[], '{{{numbers}}}'::bigint[])"  # noqa: S608
        " ON CONFLICT DO NOTHING",
    )
    steps.function(NAME, _FUNCTION)
    steps.run(
        f"DROP TRIGGER IF EXISTS {NAME} ON appointments",
        f"CREATE CONSTRAINT TRIGGER {NAME} AFTER INSERT OR UPDATE OF id, customer_id, status, scheduled_date,"
        " scheduled_time, duration_minutes ON appointments"
        f" FOR EACH ROW EXECUTE FUNCTION {NAME}('{default_capacity:d}')",
    )


def remove(steps: OnlineSteps) -> None:
    """Drop the trigger, its function and its table."""
    if steps.exists("appointments"):
        steps.run(f"DROP TRIGGER IF EXISTS {NAME} ON appointments")
    steps.run(f"DROP FUNCTION IF EXISTS {NAME}()", "DROP TABLE IF EXISTS appointment_day_locks")


def capacity_in_force(steps: OnlineSteps) -> int | None:
    """Return the capacity that the trigger was turned on with; None while it is off."""
    found: int | None = steps.query(_CAPACITY)
    return found
