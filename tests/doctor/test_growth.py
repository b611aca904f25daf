"""The doctor says when the tracking messages of many workers take too much of Redis."""

from dataclasses import replace

import pytest

from servease_appt.cache import Event, Tier
from servease_appt.doctor import growth_checks, worker_checks
from servease_appt.doctor.findings import Level
from servease_appt.inspection.workers import WorkerStatus


def status(worker: str, fills: int, *, tracking: bool = True) -> WorkerStatus:
    return WorkerStatus(
        worker=worker,
        pid=1,
        mode="both",
        l1_entries=0,
        l1_evictions=0,
        tracking=tracking,
        tiers={Tier.L2.value: {"customer": {Event.FILL.value: fills}}},
    )


def test_fills_are_counted_of_workers_that_answered_twice() -> None:
    before = [status("a:1", 100), status("b:2", 50), status("gone:3", 7)]
    after = [status("a:1", 160), status("b:2", 70), status("new:4", 500)]
    assert growth_checks.fills_per_s(before, after, 2.0) == 40


@pytest.mark.parametrize(
    ("workers", "rate", "level"),
    [
        (20, 100.0, Level.OK),
        (100, 285.0, Level.OK),
        (100, 290.0, Level.WARNING),
        (1000, 500.0, Level.WARNING),
    ],
)
def test_the_limit_is_a_tenth_of_a_core(workers: int, rate: float, level: Level) -> None:
    finding = growth_checks.tracking_cost(workers, rate)
    assert finding.level is level
    assert f"{workers * rate * growth_checks.FILL_US / 1e6:.1%} of one core" in finding.says
    assert ("CACHE_TRACKING=0" in finding.do) is (level is Level.WARNING)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_worker_without_tracking_is_a_warning_only_where_it_is_wanted(wanted: bool) -> None:
    (finding,) = worker_checks._state(
        replace(status("a:1", 0, tracking=False), channel_confirmed=True), None, tracking_wanted=wanted
    )
    assert finding.level is (Level.WARNING if wanted else Level.OK)
