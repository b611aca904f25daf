"""Convert between wall-clock time in the business time zone and UTC."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def wall_clock(now: datetime, timezone: ZoneInfo) -> datetime:
    """Return the wall-clock time at the aware moment `now`, as a naive datetime."""
    return now.astimezone(timezone).replace(tzinfo=None)


def today(now: datetime, timezone: ZoneInfo) -> date:
    """Return the date in the business time zone at the aware moment `now`."""
    return wall_clock(now, timezone).date()


def is_ahead(start: datetime, now: datetime, timezone: ZoneInfo) -> bool:
    """Return whether the naive `start` is in the future. Of two equal times at a clock change the first counts."""
    return start.replace(tzinfo=timezone) > now


def exists(start: datetime, timezone: ZoneInfo) -> bool:
    """Return False for a time that the clock skips when it is put forward."""
    aware = start.replace(tzinfo=timezone)
    return aware.astimezone(UTC).astimezone(timezone).replace(tzinfo=None) == start


def changes_on(day: date, timezone: ZoneInfo) -> bool:
    """Return whether the clock is put forward or back on that day."""
    midnight = datetime.combine(day, time.min, tzinfo=timezone)
    return midnight.utcoffset() != (midnight + timedelta(days=1)).utcoffset()
