from datetime import date, datetime, time, timedelta

from servease_appt.scheduling.availability import Offer, days_between, hourly, offers
from servease_appt.scheduling.capacity import Calendar, CapacityWindow, Running
from servease_appt.scheduling.intervals import Interval

MONDAY = date(2030, 5, 6)
FRIDAY = date(2030, 5, 10)
SATURDAY = date(2030, 5, 11)


def anytime(start: datetime) -> bool:
    return True


def test_hourly_starts_of_a_weekday() -> None:
    """From 9 to 17: eight hours, the last from 16 to 17; none on a weekend."""
    hours = hourly(MONDAY)

    assert [(start.hour, end.hour) for start, end in hours] == [(h, h + 1) for h in range(9, 17)]
    assert len(hourly(FRIDAY)) == 8
    assert hourly(SATURDAY) == []


def test_hours_up_to_midnight() -> None:
    """A closing hour of 24 is midnight."""
    (last,) = hourly(MONDAY, 23, 24)

    assert last == Interval(datetime(2030, 5, 6, 23), datetime(2030, 5, 7))


def test_a_day_without_slots_has_the_hourly_starts() -> None:
    """With the default capacity, less what runs."""
    busy = Interval(datetime(2030, 5, 6, 9, 30), datetime(2030, 5, 6, 10, 30))

    found = offers([MONDAY, SATURDAY], {}, Calendar(Running.of([busy]), [], 2), 60, anytime)

    assert found[:3] == [
        Offer(MONDAY, time(9), time(10), 1),
        Offer(MONDAY, time(10), time(11), 1),
        Offer(MONDAY, time(11), time(12), 2),
    ]
    assert len(found) == 8


def test_a_day_with_slots_has_only_their_starts() -> None:
    """Also when none of them is available, and on a weekend."""
    morning = CapacityWindow.of(SATURDAY, time(8, 15), time(9), available=True, capacity=4)
    closed = CapacityWindow.of(MONDAY, time(9), time(17), available=False, capacity=4)

    found = offers(
        [MONDAY, SATURDAY],
        {MONDAY: [closed], SATURDAY: [morning]},
        Calendar(Running.of([]), [morning, closed], 2),
        45,
        anytime,
    )

    assert found == [Offer(SATURDAY, time(8, 15), time(9), 4)]


def test_a_slot_that_covers_nothing_offers_nothing() -> None:
    """A slot may end when it begins, or before: neither is a time to come."""
    empty = CapacityWindow.of(MONDAY, time(9), time(9), available=True, capacity=4)
    turned_round = CapacityWindow.of(MONDAY, time(11), time(10), available=True, capacity=4)

    found = offers([MONDAY], {MONDAY: [empty, turned_round]}, Calendar(Running.of([]), [], 2), 60, anytime)

    assert found == []


def test_a_booking_must_fit_for_its_whole_length() -> None:
    """The room of a start is that of the fullest moment of the booking, not of the slot."""
    busy = Interval(datetime(2030, 5, 6, 11), datetime(2030, 5, 6, 12))

    found = offers([MONDAY], {}, Calendar(Running.of([busy]), [], 1), 120, anytime)

    assert [offer.start_time.hour for offer in found] == [9, 12, 13, 14, 15, 16]


def test_only_starts_that_are_open() -> None:
    """What the caller's test refuses is not offered."""
    noon = datetime.combine(MONDAY, time(12))

    found = offers([MONDAY], {}, Calendar(Running.of([]), [], 1), 60, lambda start: start > noon)

    assert [offer.start_time.hour for offer in found] == [13, 14, 15, 16]


def test_days_between_includes_both() -> None:
    """And reaches the last day that there is without an overflow."""
    assert list(days_between(MONDAY, MONDAY)) == [MONDAY]
    assert list(days_between(date.max - timedelta(days=1), date.max))[-1] == date.max
