"""The verdict over a whole history: each broken promise is named, and a clean history breaks none."""

from dataclasses import replace

import pytest

from faults import experiment, report
from faults.experiment import Fault, Phases, Result
from faults.history import BOOK, INVALIDATE, L2, NO_ANSWER, PAGE, PROBE, STATS, Operation

MS = 1_000_000
INJECTED, ENDED = 1000, 2000
FAULT = Fault(
    name="a fault", group="tests", promise="nothing breaks", failing=frozenset({"invalidate"}), lost=1
)


def operation(
    op: str, t_call: float, status: int = 200, *, took: float = 1, text: str = "c001 v2"
) -> Operation:
    """One operation of worker 41 that concerns `c001`; times in milliseconds."""
    return Operation(
        op,
        int(t_call * MS),
        int((t_call + took) * MS),
        status,
        worker=41,
        seen={"c001": text} if op in (PAGE, PROBE, L2) else {},
        live={"c001": 2} if op == INVALIDATE else {},
        facts={"cache_ms": 1.0, "mode": "both", "subscriptions": 0},
    )


CLEAN = [
    operation(STATS, 5),
    operation(PAGE, 10, text="c001 v1"),
    replace(operation(INVALIDATE, 900), worker=42),
    operation(PAGE, 950, text="c001 v1"),
    operation(PAGE, 1100),
    operation(PROBE, 1500, text="Unknown"),
    operation(INVALIDATE, 1500, 503),
    operation(BOOK, 1600, NO_ANSWER),
    operation(L2, 1700),
    operation(STATS, 2500),
    operation(PAGE, 2600),
]


def judged(*more: Operation, fault: Fault = FAULT) -> Result:
    """The verdict over the clean history with something added."""
    operations = sorted([*CLEAN, *more], key=lambda op: op.t_call)
    return experiment.judge(fault, operations, Phases(0, INJECTED * MS, ENDED * MS, frozenset({41})))


def test_a_history_without_violations_is_kept() -> None:
    """Although there are an old read within the bound, a refusal that the fault allows and one lost request."""
    result = judged()
    assert result.kept, result.broken
    assert result.stale_max_ms == 49
    assert result.statuses == {"invalidate": {"503": 1}, "book": {"no answer": 1}}
    assert report.row(result)[2] == "0 of 5"


@pytest.mark.parametrize(
    ("added", "broken"),
    [
        (operation(PAGE, 2950, text="c001 v1"), "1 reads stale beyond 2000 ms"),
        (operation(L2, 1800, text="c001 v1"), "1 old values back in L2"),
        (operation(L2, 1800, text="Unknown"), "1 placeholders in L2"),
        (operation(PAGE, 1800, text="c002 v9"), "1 values under another's key"),
        (operation(PAGE, 1800, text="c001 v1"), "1 versions going back"),
        (operation(PAGE, 1800, 500), "1 failed requests"),
        (operation(PAGE, 1800, 503), "1 failed requests"),
        (operation(PAGE, 1800, NO_ANSWER), "1 failed requests"),
        (operation(PAGE, 500, 503), "1 failed requests"),
        (operation(PAGE, 7500, text="Unknown"), "recovery took 5501 ms"),
        (replace(operation(PAGE, 1800), facts={"cache_ms": 501.0}), "a page waited 501 ms for Redis"),
    ],
)
def test_each_violation_is_named(added: Operation, broken: str) -> None:
    """One operation more, and the promise counts as broken."""
    assert any(text.startswith(broken) for text in judged(added).broken), judged(added).broken


def test_a_stale_read_in_the_invalidating_worker_breaks_the_promise_at_once() -> None:
    """Within the bound for all others."""
    found = judged(replace(operation(PAGE, 950, text="c001 v1"), worker=42))
    assert found.broken == ["1 stale reads in the invalidating worker"]


def test_before_the_fault_the_bound_is_that_of_a_healthy_service() -> None:
    """251 ms are too long in the control phase, and 250 ms are not."""
    early = replace(operation(INVALIDATE, 399), worker=42)
    for t_call, stale in ((650, 1), (651, 2)):
        found = judged(early, operation(PAGE, t_call, text="c001 v1"))
        assert found.stale_beyond == stale  # one is the clean history's own, 550 ms after this invalidation


@pytest.mark.parametrize(
    ("look", "recovery_ms"),
    [
        (replace(operation(STATS, 2300), facts={"mode": "l2_only", "subscriptions": 0}), 301),
        (replace(operation(STATS, 2400), worker=43), 401),
        (operation(PAGE, 1999, took=300), 0),
        (operation(PAGE, 1999, NO_ANSWER, took=300), 299),
    ],
    ids=["a worker without its full mode", "a new worker", "a slow page", "a lost request"],
)
def test_recovery_ends_with_the_last_sign(look: Operation, recovery_ms: float) -> None:
    """From the fault's end to when the sign was answered."""
    assert judged(look, fault=replace(FAULT, lost=2)).recovery_ms == recovery_ms


def test_the_slowest_page_is_held_to_its_limit() -> None:
    """Where the fault sets one."""
    slow = operation(PAGE, 1200, took=2301)
    assert judged(slow).kept
    assert judged(slow, fault=replace(FAULT, page_limit_ms=2300)).broken == ["a page took 2301 ms"]


def test_a_bound_in_milliseconds_gives_way_to_a_server_that_stood_still() -> None:
    """A look into Redis took 300 ms, so 250 ms become 550; bounds for lost messages stay as they are."""
    early = replace(operation(INVALIDATE, 99), worker=42)
    stall = operation(L2, 90, took=300, text="c001 v2")
    for t_call, stale in ((650, 0), (651, 1)):
        found = judged(stall, early, *(operation(PAGE, t_call, text="c001 v1"),))
        assert (
            found.stale_beyond == 1 + stale
        )  # one is the clean history's own, 850 ms after this invalidation
        assert found.server_stall_ms == 300


def test_a_missing_name_of_a_service_that_answers_breaks_the_promise() -> None:
    """Of an entity that has to be present; the placeholder of another one is allowed."""
    missing = replace(operation(PAGE, 1800), seen={"c001": "c001 v2", "v001": "Unknown"})
    assert judged(missing, fault=replace(FAULT, present=frozenset({"customer"}))).broken == [
        "1 missing names of services that answer"  # the clean history's own
    ]
    assert judged(missing, fault=replace(FAULT, present=frozenset({"vehicle"}))).broken == [
        "1 missing names of services that answer"
    ]
    assert judged(missing, fault=replace(FAULT, present=frozenset({"employee"}))).kept
