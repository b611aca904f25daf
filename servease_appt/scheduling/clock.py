"""Between the clock on the workshop's wall and UTC."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo


def wall_clock(now: datetime, timezone: ZoneInfo) -> datetime:
    """What the wall shows at the aware moment `now`: a naive datetime."""
    return now.astimezone(timezone).replace(tzinfo=None)


def today(now: datetime, timezone: ZoneInfo) -> date:
    """The workshop's date at the aware moment `now`."""
    return wall_clock(now, timezone).date()


def is_ahead(start: datetime, now: datetime, timezone: ZoneInfo) -> bool:
    """Whether the naive `start` is still to come. Of two equal times at a clock change the first counts."""
    return start.replace(tzinfo=timezone) > now


def exists(start: datetime, timezone: ZoneInfo) -> bool:
    """False for a time that the clock skips when it is put forward."""
    aware = start.replace(tzinfo=timezone)
    return aware.astimezone(UTC).astimezone(timezone).replace(tzinfo=None) == start
