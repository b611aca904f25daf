"""What must hold for the tables at every moment, as functions that name whatever breaks it.

They read the tables alone and share no code with the service, so that they can't share its mistakes. Each is tried
on a state that breaks it in `test_invariants.py`.
"""

# ruff: noqa: S608 - put together from constants of this file

from typing import Any

from sqlalchemy import Connection, text

_OPEN = "status IN ('pending', 'confirmed', 'in_progress')"
_STARTS = "(scheduled_date + scheduled_time)"
_ENDS = f"({_STARTS} + duration_minutes * INTERVAL '1 minute')"


def oversold(connection: Connection, default_capacity: int) -> list[Any]:
    """(moment, running, capacity) of every moment at which more runs than may.

    Load only grows where an appointment starts, and capacity only shrinks where a slot starts or ends.
    """
    return _rows(
        connection,
        f"""
        WITH busy AS (SELECT {_STARTS} AS s, {_ENDS} AS e FROM appointments WHERE {_OPEN}),
        covered AS (
            SELECT date + start_time AS s,
                CASE WHEN end_time = '00:00' THEN date + INTERVAL '1 day' ELSE date + end_time END AS e,
                CASE WHEN is_available THEN max_concurrent_appointments ELSE 0 END AS capacity
            FROM time_slots
        ),
        moment AS (SELECT s AS at FROM busy UNION SELECT s FROM covered UNION SELECT e FROM covered)
        SELECT at, running, capacity FROM moment,
            LATERAL (SELECT count(*) AS running FROM busy WHERE s <= at AND at < e) AS load,
            LATERAL (SELECT coalesce(min(capacity), :default) AS capacity FROM covered WHERE s <= at AND at < e)
                AS in_force
        WHERE running > capacity
        """,
        default=default_capacity,
    )


def double_booked(connection: Connection) -> list[Any]:
    """(employee, appointment, appointment) of every two that a busy employee has at once."""
    return _rows(
        connection,
        f"""
        WITH busy AS (
            SELECT id, assigned_employee_id AS employee, {_STARTS} AS s, {_ENDS} AS e FROM appointments
            WHERE status IN ('confirmed', 'in_progress') AND assigned_employee_id IS NOT NULL
        )
        SELECT a.employee, a.id, b.id FROM busy AS a JOIN busy AS b
            ON a.employee = b.employee AND a.id < b.id AND a.s < b.e AND b.s < a.e
        """,
    )


def too_near(connection: Connection) -> list[Any]:
    """(customer, appointment, appointment) of every two open ones that start less than 30 minutes apart."""
    return _rows(
        connection,
        f"""
        WITH open AS (SELECT id, customer_id, {_STARTS} AS s FROM appointments WHERE {_OPEN})
        SELECT a.customer_id, a.id, b.id FROM open AS a JOIN open AS b
            ON a.customer_id = b.customer_id AND a.id < b.id
            AND a.s - b.s < INTERVAL '30 minutes' AND b.s - a.s < INTERVAL '30 minutes'
        """,
    )


def broken_paths(connection: Connection) -> list[Any]:
    """Appointments whose history is no path from pending to their status along allowed edges.

    (appointment, what is wrong); a row that stays at its status is a new schedule or employee.
    """
    return _rows(
        connection,
        """
        WITH step AS (
            SELECT appointment_id, previous_status, new_status,
                lag(new_status, 1, 'pending') OVER w AS came_from,
                row_number() OVER (PARTITION BY appointment_id ORDER BY changed_at DESC, id DESC) AS from_end
            FROM appointment_history WINDOW w AS (PARTITION BY appointment_id ORDER BY changed_at, id)
        )
        SELECT appointment_id, 'does not continue: ' || came_from || ', then from ' || previous_status
            FROM step WHERE came_from <> previous_status
        UNION ALL
        SELECT appointment_id, 'no such edge: ' || previous_status || ' to ' || new_status
            FROM step WHERE (previous_status, new_status) NOT IN (
                ('pending', 'pending'), ('confirmed', 'confirmed'), ('in_progress', 'in_progress'),
                ('pending', 'confirmed'), ('pending', 'cancelled'), ('confirmed', 'in_progress'),
                ('confirmed', 'cancelled'), ('confirmed', 'no_show'), ('in_progress', 'completed'),
                ('in_progress', 'cancelled')
            )
        UNION ALL
        SELECT a.id, 'ends at ' || coalesce(s.new_status, 'pending') || ', is ' || a.status
            FROM appointments AS a LEFT JOIN step AS s ON s.appointment_id = a.id AND s.from_end = 1
            WHERE a.status <> coalesce(s.new_status, 'pending')
        """,
    )


def all_broken(connection: Connection, default_capacity: int) -> list[Any]:
    """Everything above."""
    return [
        *oversold(connection, default_capacity),
        *double_booked(connection),
        *too_near(connection),
        *broken_paths(connection),
    ]


def _rows(connection: Connection, statement: str, **values: Any) -> list[Any]:
    return list(connection.execute(text(statement), values))
