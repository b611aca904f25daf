"""The table of booking events, which a trigger writes in the transaction of each change.

It serves two readers: clients that follow the changes of appointments (`servease_appt.appointments.changes`), and
the delivery of events to a Redis stream (`servease_appt.event_stream`). The history can't: it has no edits,
bookings and deletions, and nothing of what other services write.

Readers continue after the last event that they have seen, so events need numbers in the order in which they become
visible. A sequence that a writer takes does not give that: a writer that commits late has a lower number than one
that readers have seen already. A writer that takes the number last, under a lock, would make all writers wait for
each other. So a writer only inserts. Afterwards `appointment_events_publish` gives numbers to all events that have
been committed, under a lock that no writer takes, and readers see only events with a number. The order does not
depend on transaction ids, so it survives a dump and a restore, and long transactions of others delay nothing.

The numbers are counted in a table of one row: a sequence of PostgreSQL would leave gaps, and would not go back
with a transaction.
"""

from typing import Final

from servease_appt.db.events import KEPT
from servease_appt.db.online import Firing, OnlineSteps

_TABLES: Final = (
    """
    CREATE TABLE appointment_events (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        number bigint,
        published_at timestamptz,
        occurred_at timestamptz NOT NULL,
        event text NOT NULL,
        appointment_id uuid NOT NULL,
        customer_id uuid,
        status text
    )
    """,
    "COMMENT ON TABLE appointment_events IS 'Changes of appointments; number and published_at follow the commit'",
    "CREATE INDEX appointment_events_number_idx ON appointment_events (number, id)",
    "CREATE INDEX appointment_events_customer_idx ON appointment_events (customer_id, number)",
    "CREATE INDEX appointment_events_published_idx ON appointment_events (published_at, number)",
    """
    CREATE TABLE appointment_events_state (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        last_number bigint NOT NULL DEFAULT 0,
        last_published_at timestamptz NOT NULL DEFAULT '-infinity',
        delivered_number bigint NOT NULL DEFAULT 0,
        dropped_number bigint NOT NULL DEFAULT 0,
        dropped_published_at timestamptz NOT NULL DEFAULT '-infinity'
    )
    """,
    """
    COMMENT ON TABLE appointment_events_state IS
        'The last event published, delivered to Redis, and dropped because of its age'
    """,
    "INSERT INTO appointment_events_state DEFAULT VALUES",
)

_CHANGED: Final = """
    CREATE OR REPLACE FUNCTION appointment_events_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO appointment_events (occurred_at, event, appointment_id, customer_id, status)
            SELECT clock_timestamp(), 'booked', id, customer_id, status FROM new_rows;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO appointment_events (occurred_at, event, appointment_id, customer_id, status)
            SELECT clock_timestamp(), 'deleted', id, customer_id, status FROM old_rows;
        ELSE
            INSERT INTO appointment_events (occurred_at, event, appointment_id, customer_id, status)
            SELECT clock_timestamp(),
                CASE
                    WHEN n.id IS NULL THEN 'deleted'
                    WHEN o.id IS NULL THEN 'booked'
                    WHEN n.status IS DISTINCT FROM o.status THEN coalesce(n.status, 'edited')
                    WHEN n.scheduled_date IS DISTINCT FROM o.scheduled_date
                        OR n.scheduled_time IS DISTINCT FROM o.scheduled_time THEN 'rescheduled'
                    WHEN n.assigned_employee_id IS DISTINCT FROM o.assigned_employee_id THEN 'assigned'
                    ELSE 'edited'
                END,
                coalesce(n.id, o.id), coalesce(n.customer_id, o.customer_id), coalesce(n.status, o.status)
            FROM new_rows AS n FULL JOIN old_rows AS o ON n.id = o.id WHERE n IS DISTINCT FROM o;
        END IF;
        RETURN NULL;
    END
    $body$
"""

# No argument: every role that may use the schema may call it.
_KEPT: Final = f"INTERVAL '{KEPT.days} days'"
_LOCK: Final = "pg_advisory_xact_lock(hashtextextended('appointment_events', 0))"
_PUBLISH: Final = f"""
    CREATE OR REPLACE FUNCTION appointment_events_publish(most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $body$
    DECLARE
        before bigint;
        moment timestamptz;
        published bigint;
    BEGIN
        -- An older snapshot would not see the numbers that the last holder of the lock has given.
        IF current_setting('transaction_isolation') <> 'read committed'
            OR NOT EXISTS (SELECT FROM appointment_events WHERE number IS NULL)
        THEN
            RETURN 0;
        END IF;
        PERFORM {_LOCK};
        -- The largest number is larger after a restore that found the state table filled already.
        SELECT greatest(last_number, (SELECT max(number) FROM appointment_events)),
            greatest(last_published_at, clock_timestamp()) INTO before, moment
            FROM appointment_events_state;
        WITH waiting AS (
            SELECT id, row_number() OVER (ORDER BY id) AS place FROM (
                SELECT id FROM appointment_events WHERE number IS NULL ORDER BY id LIMIT most
            ) AS first_of_them
        )
        UPDATE appointment_events AS e SET number = before + place, published_at = moment
        FROM waiting WHERE e.id = waiting.id;
        GET DIAGNOSTICS published = ROW_COUNT;
        IF published > 0 THEN
            UPDATE appointment_events_state SET last_number = before + published, last_published_at = moment;
        END IF;
        RETURN published;
    END
    $body$
"""  # noqa: S608 - constants
_DROP: Final = f"""
    CREATE OR REPLACE FUNCTION appointment_events_drop(most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $body$
    DECLARE
        dropped bigint;
    BEGIN
        IF current_setting('transaction_isolation') <> 'read committed'
            OR NOT EXISTS (SELECT FROM appointment_events WHERE published_at < clock_timestamp() - {_KEPT})
        THEN
            RETURN 0;
        END IF;
        PERFORM {_LOCK};
        WITH gone AS (
            DELETE FROM appointment_events WHERE id IN (
                SELECT id FROM appointment_events WHERE published_at < clock_timestamp() - {_KEPT}
                ORDER BY published_at, number LIMIT most
            ) RETURNING number, published_at
        ),
        last AS (SELECT count(*) AS number_of, max(number) AS number, max(published_at) AS moment FROM gone)
        UPDATE appointment_events_state SET dropped_number = greatest(dropped_number, last.number),
            dropped_published_at = greatest(dropped_published_at, last.moment)
        FROM last RETURNING number_of INTO dropped;
        RETURN dropped;
    END
    $body$
"""  # noqa: S608
_FUNCTIONS: Final = {
    "appointment_events_changed": _CHANGED,
    "appointment_events_publish": _PUBLISH,
    "appointment_events_drop": _DROP,
}
_TRIGGERS: Final = {
    "appointment_events_inserted": ("INSERT", "REFERENCING NEW TABLE AS new_rows"),
    "appointment_events_updated": ("UPDATE", "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"),
    "appointment_events_deleted": ("DELETE", "REFERENCING OLD TABLE AS old_rows"),
}


def install(steps: OnlineSteps) -> None:
    """Create what is missing and update the functions. Rows that are there already are no events."""
    if not steps.exists("appointment_events_state"):
        steps.run(*_TABLES)
    for name, definition in _FUNCTIONS.items():
        steps.function(name, definition)
    for name, (event, tables) in _TRIGGERS.items():
        action = f"{tables} FOR EACH STATEMENT EXECUTE FUNCTION appointment_events_changed()"
        steps.trigger(name, event, action, Firing.ORIGIN)


def remove(steps: OnlineSteps) -> None:
    """Drop everything that `install` created."""
    if steps.exists("appointments"):
        steps.run(*(f"DROP TRIGGER IF EXISTS {name} ON appointments" for name in _TRIGGERS))
    steps.run(
        "DROP FUNCTION IF EXISTS appointment_events_changed()",
        "DROP FUNCTION IF EXISTS appointment_events_publish(integer)",
        "DROP FUNCTION IF EXISTS appointment_events_drop(integer)",
        "DROP TABLE IF EXISTS appointment_events, appointment_events_state",
    )
