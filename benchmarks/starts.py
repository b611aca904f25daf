"""Part 6: the starts of 92 days at which a booking fits, against a scan of each start's interval.

The scan is the former implementation: an interval of datetimes for each appointment, steps kept under datetimes,
and for each start a check of every step of its interval. Both read the same database in turns and must find the
same.
"""

import time
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from benchmarks.measure import in_turns
from benchmarks.results import Results, Scale
from servease_appt.appointments import checks, free_starts, slots
from servease_appt.appointments.actors import Actor, Role
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.db.engine import Database
from servease_appt.db.migrate import upgrade
from servease_appt.scheduling import clock
from servease_appt.scheduling.capacity import CapacityWindow
from servease_appt.scheduling.intervals import Interval
from servease_appt.testing.servers import EmbeddedPostgres

OURS, SCAN = "one pass", "a scan for each start"
APPOINTMENTS = 3000
ADMIN = Actor(str(UUID(int=1)), Role.ADMIN)
POLICY = BookingPolicy(default_capacity=6, default_duration_minutes=60, timezone=ZoneInfo("UTC"))
FIRST_DAY = date(2030, 5, 7)
LAST_DAY = FIRST_DAY + timedelta(days=free_starts.MAX_DAYS_OFFERED - 1)
NOW = datetime(2030, 5, 6, 8, tzinfo=UTC)
WEEK_MINUTES = 7 * 24 * 60

_FILL = text("""
    INSERT INTO appointments (
        id, customer_id, vehicle_id, appointment_type, scheduled_date, scheduled_time, duration_minutes, status,
        service_description, customer_notes, internal_notes, duration_seconds, created_by_user_id, created_at,
        updated_at
    )
    SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'repair',
        CAST(:first_day AS date) + i % 120,
        TIME '09:00' + i / 120 % 8 * INTERVAL '1 hour' + i % 2 * INTERVAL '30 minutes',
        30 + 30 * (i % 3), 'pending', '', '', '', 0, gen_random_uuid(), now(), now()
    FROM generate_series(0, :appointments - 1) AS i
""")
_RUNNING = text("""
    SELECT scheduled_date, scheduled_time, duration_minutes FROM appointments
    WHERE status IN ('pending', 'confirmed', 'in_progress') AND scheduled_date BETWEEN :day_before AND :last_day
        AND scheduled_date + scheduled_time < :ends
        AND scheduled_date + scheduled_time + duration_minutes * INTERVAL '1 minute' > :starts
    ORDER BY 1, 2
""")

Start = tuple[date, object, int]


def run(results: Results, scale: Scale) -> None:
    """Measure bookings of an hour and of a week."""
    with EmbeddedPostgres() as server:
        url = server.create_database("bench_starts")
        upgrade(url)
        database = Database(url)
        slots.bulk_create(database, POLICY, ADMIN, FIRST_DAY, FIRST_DAY + timedelta(days=360))
        with database.transaction() as connection:
            connection.execute(_FILL, {"first_day": FIRST_DAY, "appointments": APPOINTMENTS})
            connection.execute(text("ANALYZE"))
        for length, minutes in (("an hour", 60), ("a week", WEEK_MINUTES)):
            _measure(database, f"Free starts of 92 days, bookings of {length}", minutes, results, scale)
        database.close()


def _measure(database: Database, case: str, minutes: int, results: Results, scale: Scale) -> None:
    if _ask(database, one_pass, minutes) != _ask(database, scan, minutes):
        raise RuntimeError("the two do not find the same starts")
    rounds = in_turns(
        {OURS: partial(_timed, database, one_pass, minutes), SCAN: partial(_timed, database, scan, minutes)},
        rounds=2 * scale.rounds,
    )
    for name in (OURS, SCAN):
        results.add(
            part="starts",
            case=case,
            contender=name,
            unit="ms",
            figure=rounds.figure(name),
            baseline=SCAN,
            ratio=rounds.ratio(name, SCAN),
            ours=name == OURS or None,
        )
    results.target(f"{case}, milliseconds", value=rounds.figure(OURS).median, limit=10, unit="ms")


def _ask(database: Database, find: Callable[[Connection, int], list[Start]], minutes: int) -> list[Start]:
    with database.reading() as connection:
        return find(connection, minutes)


def _timed(database: Database, find: Callable[[Connection, int], list[Start]], minutes: int) -> float:
    started_s = time.perf_counter()
    _ask(database, find, minutes)
    return (time.perf_counter() - started_s) * 1000


def one_pass(connection: Connection, minutes: int) -> list[Start]:
    """Find the starts as the service does."""
    found = free_starts.available_slots(
        connection,
        POLICY,
        ADMIN,
        start_date=FIRST_DAY,
        end_date=LAST_DAY,
        duration_minutes=minutes,
        now=NOW,
    )
    return [(start.date, start.start_time, start.available_capacity) for start in found]


def scan(connection: Connection, minutes: int) -> list[Start]:
    """Find the starts by checking every step of each start's interval."""
    starts = datetime.combine(FIRST_DAY, datetime.min.time())
    ends = datetime.combine(LAST_DAY, datetime.min.time()) + timedelta(days=1, minutes=minutes)
    rows = connection.execute(
        _RUNNING,
        {
            "starts": starts,
            "ends": ends,
            "day_before": FIRST_DAY - timedelta(days=1),
            "last_day": ends.date(),
        },
    )
    running = [Interval.of(day, at, length) for day, at, length in rows]
    windows = checks.load_windows(connection, FIRST_DAY, ends.date())
    moments, room = _steps(running, windows)
    length = timedelta(minutes=minutes)
    found: list[Start] = []
    for window in sorted(windows):
        start = window.interval.start
        if start.date() > LAST_DAY or not (
            clock.is_ahead(start, NOW, POLICY.timezone) and clock.exists(start, POLICY.timezone)
        ):
            continue
        step = bisect_right(moments, start) - 1
        least = room[step] if step >= 0 else POLICY.default_capacity
        for later in range(step + 1, len(moments)):
            if moments[later] >= start + length:
                break
            least = min(least, room[later])
        if least > 0:
            found.append((start.date(), start.time(), least))
    return found


def _steps(
    running: Iterable[Interval], windows: Iterable[CapacityWindow]
) -> tuple[list[datetime], list[int]]:
    changes: defaultdict[datetime, int] = defaultdict(int)
    for start, end in running:
        changes[start] += 1
        changes[end] -= 1
    opened: defaultdict[datetime, list[int]] = defaultdict(list)
    closed: defaultdict[datetime, list[int]] = defaultdict(list)
    for (start, end), capacity in windows:
        opened[start].append(capacity)
        closed[end].append(capacity)
    moments = sorted({*changes, *opened, *closed})
    room: list[int] = []
    load, in_force = 0, list[int]()
    for moment in moments:
        load += changes.get(moment, 0)
        for capacity in closed.get(moment, ()):
            in_force.remove(capacity)
        for capacity in opened.get(moment, ()):
            insort(in_force, capacity)
        room.append((in_force[0] if in_force else POLICY.default_capacity) - load)
    return moments, room
