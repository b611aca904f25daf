from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servease_appt.scheduling.intervals import (
    LAST_DATE,
    MAX_DURATION_MINUTES,
    TICK,
    Interval,
    first_overlap,
    first_too_near,
    midnight_after,
    ticks,
)

NINE = datetime(2030, 5, 6, 9)

minutes = st.integers(min_value=0, max_value=300)


def at(start: int, end: int) -> Interval:
    return Interval(NINE + timedelta(minutes=start), NINE + timedelta(minutes=end))


@given(minutes, minutes, minutes, minutes)
def test_overlap_means_a_shared_minute(a: int, b: int, c: int, d: int) -> None:
    """Two intervals overlap exactly when some minute belongs to both."""
    shared = set(range(a, b)) & set(range(c, d))

    assert at(a, b).overlaps(at(c, d)) == bool(shared)


def test_one_may_begin_where_the_other_ends() -> None:
    """The end is not part of an interval."""
    assert first_overlap(at(0, 60), [at(60, 120), at(-60, 0)]) is None
    assert first_overlap(at(0, 60), [at(60, 120), at(59, 60)]) == at(59, 60)


@pytest.mark.parametrize(("gap", "near"), [(0, True), (29, True), (30, False), (31, False)])
def test_the_thirty_minutes_between_a_customers_starts(gap: int, near: bool) -> None:
    """Less than 30 minutes is too near, before and after; 30 is not."""
    for other in (NINE + timedelta(minutes=gap), NINE - timedelta(minutes=gap)):
        assert first_too_near(NINE, [other]) == (other if near else None)


def test_the_thirty_minutes_reach_over_midnight() -> None:
    """23:50 and 00:10 of the next day are 20 minutes apart."""
    assert first_too_near(datetime(2030, 5, 6, 23, 50), [datetime(2030, 5, 7, 0, 10)]) is not None


@pytest.mark.parametrize(
    ("start", "duration", "days"),
    [
        (time(9), 60, [6]),
        (time(23), 60, [6]),
        (time(23), 61, [6, 7]),
        (time(0), 24 * 60, [6]),
        (time(12), MAX_DURATION_MINUTES, [6, 7, 8, 9, 10, 11, 12, 13]),
        (time(12), 0, []),
        (time(12), -30, []),
    ],
)
def test_the_days_that_an_appointment_touches(start: time, duration: int, days: list[int]) -> None:
    """Every day with a moment of it, and midnight belongs to the day that begins."""
    interval = Interval.of(date(2030, 5, 6), start, duration)

    assert [day.day for day in interval.days] == days


def test_no_sum_leaves_the_calendar() -> None:
    """Lengths that only an old row can have end with Python's calendar instead of overflowing."""
    assert Interval.of(LAST_DATE, time(23, 59), MAX_DURATION_MINUTES).end.year == 9999
    assert Interval.of(date(6000, 1, 1), time(9), 2**31 - 1).end > datetime(9999, 12, 31)
    assert Interval.of(date.min, time(0), -(2**31)).end == datetime.min
    assert midnight_after(date.max) == datetime.max
    assert midnight_after(date(2030, 5, 6)) == datetime(2030, 5, 7)


@given(st.datetimes(), st.datetimes())
def test_ticks_are_as_far_apart_as_their_moments(first: datetime, second: datetime) -> None:
    """To the microsecond, over days and years: a booking's end is its start's ticks plus those of its length."""
    assert (ticks(second) - ticks(first)) * TICK == second - first
    assert ticks(datetime.min) == 0
