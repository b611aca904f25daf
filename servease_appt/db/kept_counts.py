"""Check and repair the counts that triggers keep (see `servease_appt.db.migrations.kept_counts`).

Triggers miss some writes: a restore with triggers turned off leaves counts that are too small, and a restore that
includes the counts doubles them. Every function here takes a connection in autocommit mode or in a transaction,
and reads everything in one statement, so writers may continue meanwhile.
"""

import random
from datetime import date, timedelta
from typing import Final

from sqlalchemy import Connection, text

from servease_appt.db.engine import Database

LAST_DAY: Final = (date(9999, 12, 31) - date(2000, 1, 1)).days + 1
"""The bucket of all dates after the end of Python's calendar; day 0 is 2000-01-01."""

DAY: Final = "greatest(least(scheduled_date, DATE '10000-01-01'), DATE '4713-01-02 BC') - DATE '2000-01-01'"
"""SQL for a row's day number, which is defined for any date."""

INTO_COUNTS: Final = """
    SELECT level, day >> (5 * level), coalesce(status, '*'), coalesce(appointment_type, '*'), sum(number)
    FROM (
        SELECT day, number,
            CASE WHEN status LIKE '*%' THEN '*' || status ELSE status END AS status,
            CASE WHEN appointment_type LIKE '*%' THEN '*' || appointment_type ELSE appointment_type END
                AS appointment_type
        FROM changes
    ) AS named, generate_series(0, 2) AS level
    GROUP BY level, day >> (5 * level), CUBE (status, appointment_type)
    HAVING sum(number) <> 0
"""
"""SQL that makes rows of `appointment_counts` from `changes`: day, status, type and number."""

_EXPECTED: Final = f"""
    WITH changes AS (
        SELECT {DAY} AS day, coalesce(status, '') AS status, coalesce(appointment_type, '') AS appointment_type,
            count(*) AS number
        FROM appointments GROUP BY 1, 2, 3
        UNION ALL SELECT day, status, appointment_type, -number FROM appointment_count_changes
    ),
    expected (level, bucket, status, appointment_type, number) AS ({INTO_COUNTS}),
    wrong AS (
        SELECT level, bucket, status, appointment_type, coalesce(expected.number, 0) AS number
        FROM expected FULL JOIN appointment_counts AS kept USING (level, bucket, status, appointment_type)
        WHERE coalesce(expected.number, 0) <> coalesce(kept.number, 0)
    )
"""  # noqa: S608 - constants
_COMPARE: Final = text(f"{_EXPECTED} SELECT count(*) FROM wrong")  # noqa: S608
_REPAIR: Final = text(
    f"""
    {_EXPECTED}
    INSERT INTO appointment_counts (level, bucket, status, appointment_type, number)
    SELECT level, bucket, status, appointment_type, number FROM wrong
    ON CONFLICT (level, status, appointment_type, bucket) DO UPDATE SET number = excluded.number
    """  # noqa: S608
)
_ONE_FOLDER: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('appointment_counts', 0))")
_RANGE: Final = text("SELECT min(scheduled_date), max(scheduled_date) FROM appointments")
_KEPT_RANGE: Final = text(
    "SELECT bucket FROM appointment_counts WHERE level = 0 AND status = '*' AND appointment_type = '*'"
    " AND number <> 0 AND bucket >= :from_day ORDER BY bucket LIMIT 1"
)
_NEXT_DAY: Final = text(
    "SELECT scheduled_date FROM appointments WHERE scheduled_date >= :day ORDER BY scheduled_date LIMIT 1"
)
_ONE_DAY: Final = text("""
    SELECT (SELECT count(*) FROM appointments WHERE scheduled_date = :day),
        (SELECT coalesce(sum(number), 0) FROM appointment_counts
            WHERE level = 0 AND status = '*' AND appointment_type = '*' AND bucket = :number)
        + (SELECT coalesce(sum(number), 0) FROM appointment_count_changes WHERE day = :number)
""")
_FOLD: Final = text("SELECT appointment_counts_fold()")
_EPOCH: Final = date(2000, 1, 1)


def differences(connection: Connection) -> int:
    """Return the number of wrong kept counts. Reads all appointments once: seconds for millions."""
    return int(connection.execute(_COMPARE).scalar_one())


def repair(connection: Connection) -> int:
    """Repair wrong counts and return their number. Call it in a READ COMMITTED transaction.

    Writers may continue: their changes are added to the counts as usual.
    """
    connection.execute(_ONE_FOLDER)
    return connection.execute(_REPAIR).rowcount


def sampled_differences(connection: Connection, days: int = 6) -> int:
    """Return the number of sampled days with a wrong kept count: the first day, the last, and random ones.

    Costs one index look-up for each row of those days, for any number of appointments. 0 does not prove that
    all counts are right; `differences` does.
    """
    first, last = connection.execute(_RANGE).one()
    chosen: set[date] = set()
    if first is not None:
        chosen |= {first, last}
        length = (last - first).days
        for _ in range(days):
            wanted = first + timedelta(days=random.randint(0, length))
            chosen.add(connection.execute(_NEXT_DAY, {"day": wanted}).scalar_one())
    kept = connection.execute(_KEPT_RANGE, {"from_day": -(2**31)}).scalar()
    if kept is not None and date.min <= _date_of(kept):
        chosen.add(_date_of(kept))
    return sum(_is_wrong(connection, day) for day in chosen if date.min < day < date.max)


def fold(database: Database) -> None:
    """Add the pending changes to the counts, which makes reads faster. Cheap; writers do not wait for it.

    Raises:
        DatabaseUnavailable: PostgreSQL can't be used, or has not been upgraded.
    """
    with database.transaction() as connection:
        connection.execute(_FOLD)


def _is_wrong(connection: Connection, day: date) -> bool:
    counted, kept = connection.execute(_ONE_DAY, {"day": day, "number": (day - _EPOCH).days}).one()
    return bool(counted != kept)


def _date_of(bucket: int) -> date:
    try:
        return _EPOCH + timedelta(days=bucket)
    except OverflowError:
        return date.max if bucket > 0 else date.min
