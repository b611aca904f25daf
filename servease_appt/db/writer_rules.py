"""Enforce the rules about many rows for other writers; see `servease_appt.db.migrations.writer_rules`."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final

from sqlalchemy import Connection

from servease_appt.db.errors import UpgradeRefused
from servease_appt.db.migrate import connected, only_upgrade
from servease_appt.db.migrations import writer_rules
from servease_appt.db.online import OnlineSteps
from servease_appt.db.violations import CAPACITY, CUSTOMER_GAP_RULE, violations

DAYS: Final = tuple(date(2000, 1, 1) + timedelta(days=n) for n in range(36525))
"""The days of this century. For other days only the service enforces the rules."""

_HELD: Final = (CAPACITY, CUSTOMER_GAP_RULE)


def enforce(url: str, default_capacity: int, day_locks: Mapping[date, int]) -> None:
    """Enforce capacity and the customer's 30 minutes for every writer from now on. Others may write meanwhile.

    Args:
        url: `postgresql://…`
        default_capacity: maximum of simultaneous appointments where no slot is defined; the service's setting.
        day_locks: the lock number of each day for which the rules are enforced.

    Raises:
        UpgradeRefused: rows break these rules already, or there are no tables; nothing was changed.
        LockNotAvailable: other sessions held a lock too long; nothing was changed.
        DatabaseUnavailable: PostgreSQL can't be used.
    """
    with only_upgrade(url), connected(url) as connection:
        steps = OnlineSteps(connection)
        _refuse_if_broken(connection, default_capacity)
        writer_rules.install(steps, default_capacity, day_locks)
        try:
            # The trigger did not check rows that were written after the first check and before it.
            _refuse_if_broken(connection, default_capacity)
        except UpgradeRefused:
            writer_rules.remove(steps)
            raise


def release(url: str) -> None:
    """Stop enforcing the rules for other writers. Raises LockNotAvailable or DatabaseUnavailable."""
    with only_upgrade(url), connected(url) as connection:
        writer_rules.remove(OnlineSteps(connection))


def capacity_in_force(url: str) -> int | None:
    """Return the capacity that is enforced for other writers; None while it is not."""
    with connected(url) as connection:
        return writer_rules.capacity_in_force(OnlineSteps(connection))


def _refuse_if_broken(connection: Connection, default_capacity: int) -> None:
    broken = [found for found in violations(connection, default_capacity) if found.rule in _HELD]
    if broken:
        raise UpgradeRefused(
            f"{len(broken)} appointments break these rules already, one is {broken[0].id}:"
            " put them right first (`db upgrade` names them)"
        )
