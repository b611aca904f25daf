from datetime import date, datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from servease_appt.scheduling.capacity import Calendar, CapacityWindow, Running, overfull
from servease_appt.scheduling.intervals import Interval, ticks

MIDNIGHT = datetime(2030, 5, 6)
DAY = MIDNIGHT.date()

minute = st.integers(min_value=0, max_value=120)
spans = st.tuples(minute, minute).map(sorted).map(lambda pair: (pair[0], pair[1]))
slots = st.tuples(spans, st.integers(min_value=0, max_value=4))


def at(minutes: int) -> datetime:
    return MIDNIGHT + timedelta(minutes=minutes)


def interval(span: tuple[int, int]) -> Interval:
    return Interval(at(span[0]), at(span[1]))


def room_of_minute(
    number: int, running: list[tuple[int, int]], windows: list[tuple[tuple[int, int], int]], default: int
) -> int:
    """The rule, said naively for one minute."""
    covering = [capacity for (start, end), capacity in windows if start <= number < end]
    capacity = min(covering) if covering else default
    return capacity - sum(start <= number < end for start, end in running)


@given(
    st.lists(spans, max_size=8), st.lists(slots, max_size=5), st.integers(0, 4), minute, st.integers(1, 60)
)
def test_room_agrees_with_counting_minute_by_minute(
    running: list[tuple[int, int]],
    windows: list[tuple[tuple[int, int], int]],
    default: int,
    start: int,
    length: int,
) -> None:
    """The room of an interval is the least that a count over each of its minutes finds."""
    calendar = Calendar(
        Running.of(interval(span) for span in running),
        [CapacityWindow(interval(s), c) for s, c in windows],
        default,
    )
    minutes = range(start, start + length)

    expected = min(room_of_minute(number, running, windows, default) for number in minutes)

    assert calendar.room(interval((start, start + length))) == expected


@given(
    st.lists(spans, max_size=12),
    st.lists(slots, max_size=6),
    st.integers(0, 4),
    st.lists(minute, max_size=20).map(sorted),
    st.integers(1, 90),
)
def test_many_starts_in_one_pass_have_the_room_that_each_has_alone(
    running: list[tuple[int, int]],
    windows: list[tuple[tuple[int, int], int]],
    default: int,
    starts: list[int],
    length: int,
) -> None:
    """However the intervals overlap, also where two begin at the same moment."""
    calendar = Calendar(
        Running.of(interval(span) for span in running),
        [CapacityWindow(interval(s), c) for s, c in windows],
        default,
    )

    found = calendar.rooms([at(start) for start in starts], timedelta(minutes=length))

    assert found == [calendar.room(interval((start, start + length))) for start in starts]


@given(st.lists(spans, max_size=8), st.lists(slots, max_size=3), st.integers(0, 2))
def test_overfull_names_whoever_runs_while_too_many_run(
    running: list[tuple[int, int]], windows: list[tuple[tuple[int, int], int]], default: int
) -> None:
    """An appointment is overfull exactly when one of its minutes has less than no room."""
    found = overfull(
        [interval(span) for span in running], [CapacityWindow(interval(s), c) for s, c in windows], default
    )

    expected = [
        interval((start, end))
        for start, end in running
        if any(room_of_minute(number, running, windows, default) < 0 for number in range(start, end))
    ]
    assert found == expected


def test_load_that_never_runs_at_once_does_not_add_up() -> None:
    """It is the peak that counts, not how many touch the interval."""
    one_after_another = [interval((0, 30)), interval((30, 60)), interval((60, 90))]

    assert Calendar(Running.of(one_after_another), [], 1).room(interval((90, 120))) == 1
    assert Calendar(Running.of(one_after_another), [], 2).room(interval((0, 90))) == 1


def test_over_midnight_each_day_brings_its_own_capacity() -> None:
    """A booking that crosses midnight needs room in the slots of both days."""
    late = CapacityWindow.of(DAY, time(23), time(0), available=True, capacity=5)
    early = CapacityWindow.of(DAY + timedelta(days=1), time(0), time(1), available=True, capacity=1)

    calendar = Calendar(Running.of([]), [late, early], 3)

    assert calendar.room(interval((23 * 60, 24 * 60))) == 5
    assert calendar.room(interval((23 * 60, 24 * 60 + 1))) == 1
    assert calendar.room(interval((25 * 60, 26 * 60))) == 3


def test_a_slot_that_is_not_available_has_no_room() -> None:
    """Closed is a capacity of 0, and the strictest of overlapping slots counts."""
    closed = CapacityWindow.of(DAY, time(9), time(10), available=False, capacity=9)
    wide = CapacityWindow.of(DAY, time(8), time(12), available=True, capacity=9)

    calendar = Calendar(Running.of([]), [wide, closed], 3)

    assert calendar.room(interval((9 * 60, 10 * 60))) == 0
    assert calendar.room(interval((10 * 60, 11 * 60))) == 9


def test_an_opening_that_ends_before_it_starts_covers_nothing() -> None:
    """Old rows may hold such slots; the default capacity is in force there."""
    backwards = CapacityWindow.of(DAY, time(12), time(9), available=True, capacity=0)

    assert Calendar(Running.of([]), [backwards], 3).room(interval((0, 24 * 60))) == 3


def test_what_ends_before_it_starts_takes_up_nothing() -> None:
    """Adopted rows may have a negative duration: they give no room to others either."""
    turned_round = Running([ticks(at(60))], [ticks(at(30))])

    assert Calendar(turned_round, [], 1).room(interval((0, 90))) == 1
    assert Calendar(turned_round, [], 1).room(interval((30, 60))) == 1


def test_the_last_day_of_all() -> None:
    """A slot to midnight of the last day that there is overflows nothing."""
    capacity_window = CapacityWindow.of(date.max, time(23), time(0), available=True, capacity=1)

    assert capacity_window.interval.end == datetime.max


def test_what_takes_no_time_is_never_overfull() -> None:
    """Adopted rows may have a duration of 0: they run at no moment, however full that is."""
    busy, empty = interval((0, 60)), interval((30, 30))

    assert overfull([busy, busy, empty], [], 1) == [busy, busy]
