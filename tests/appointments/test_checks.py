"""What is read from PostgreSQL for the rules is what the rules would make of the rows."""

from datetime import date, datetime, time, timedelta

import pytest

from servease_appt.appointments import checks
from servease_appt.scheduling.capacity import Running
from servease_appt.scheduling.intervals import Interval
from tests.appointments.test_invariants import plant
from tests.appointments.workshop import Workshop

DAY = date(2030, 5, 7)
NIGHT = Interval(datetime.combine(DAY, time(22)), datetime.combine(DAY + timedelta(days=1), time(2)))


@pytest.mark.parametrize(
    ("day", "at", "minutes"),
    [
        (DAY, "22:00", 60),
        (DAY, "23:59:59.999999", 1440),
        (DAY + timedelta(days=1), "00:00", -60),
        (DAY - timedelta(days=1), "22:30", 1440),
        (DAY - timedelta(days=8), "01:00", 14 * 1440),
        (date(1, 1, 1), "00:00", 2**30),
    ],
)
def test_what_runs_is_read_to_the_microsecond(lawless: Workshop, day: date, at: str, minutes: int) -> None:
    """Whatever an old row holds: its start and its end are those of its interval."""
    lawless.sql("ALTER TABLE appointments DROP CONSTRAINT appointments_duration_in_range")
    plant(lawless, day=str(day), at=at, minutes=str(minutes))

    with lawless.database.reading() as connection:
        (start,), (end,) = checks.load_running(connection, NIGHT)

    expected = Running.of([Interval.of(day, time.fromisoformat(at), max(minutes, 0))])
    assert ((start,), (max(start, end),)) == (tuple(expected.starts), tuple(expected.ends))


@pytest.mark.parametrize("day", [DAY - timedelta(days=3), DAY + timedelta(days=3)])
def test_what_runs_on_other_days_is_not_read(workshop: Workshop, day: date) -> None:
    """However many there are, a booking reads the appointments of its days."""
    plant(workshop, day=str(day), minutes="1440")

    with workshop.database.reading() as connection:
        assert checks.load_running(connection, NIGHT) == Running((), ())
