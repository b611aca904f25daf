from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from servease_appt.scheduling.clock import changes_on, exists, is_ahead, today, wall_clock

BERLIN = ZoneInfo("Europe/Berlin")
KIRITIMATI = ZoneInfo("Pacific/Kiritimati")


def test_the_wall_shows_local_time() -> None:
    """A moment is read in the business time zone, and so is its date."""
    now = datetime(2030, 7, 1, 22, 30, tzinfo=UTC)

    assert wall_clock(now, BERLIN) == datetime(2030, 7, 2, 0, 30)
    assert today(now, BERLIN) == date(2030, 7, 2)
    assert today(now, ZoneInfo("UTC")) == date(2030, 7, 1)


@pytest.mark.parametrize(("minute", "ahead"), [(29, False), (30, False), (31, True)])
def test_ahead_is_judged_in_the_business_time_zone(minute: int, ahead: bool) -> None:
    """Now is not ahead; one minute later is, whatever UTC says."""
    now = datetime(2030, 7, 1, 22, 30, tzinfo=UTC)

    assert is_ahead(datetime(2030, 7, 2, 0, minute), now, BERLIN) is ahead


def test_a_time_that_the_clock_skips_does_not_exist() -> None:
    """On 31 March 2030 Berlin goes from 02:00 to 03:00."""
    assert not exists(datetime(2030, 3, 31, 2, 30), BERLIN)
    assert exists(datetime(2030, 3, 31, 3, 0), BERLIN)
    assert exists(datetime(2030, 10, 27, 2, 30), BERLIN)


def test_the_edges_of_the_calendar() -> None:
    """The first and the last dates that can be written are judged without an overflow."""
    now = datetime(2030, 7, 1, tzinfo=UTC)

    assert not is_ahead(datetime(1, 1, 1), now, KIRITIMATI)
    assert is_ahead(datetime(9999, 12, 31, 23, 59), now, ZoneInfo("Pacific/Pago_Pago"))


@pytest.mark.parametrize(
    ("day", "timezone", "changes"),
    [
        (date(2030, 3, 31), BERLIN, True),
        (date(2030, 10, 27), BERLIN, True),
        (date(2030, 3, 30), BERLIN, False),
        (date(2030, 4, 1), BERLIN, False),
        (date(2030, 3, 31), ZoneInfo("UTC"), False),
    ],
)
def test_days_of_a_clock_change(day: date, timezone: ZoneInfo, changes: bool) -> None:
    """Put forward or back; neither the day before nor the day after."""
    assert changes_on(day, timezone) is changes
