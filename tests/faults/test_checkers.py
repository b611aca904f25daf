"""Each checker finds the violation in a history written by hand, and nothing in the same history without it."""

from pathlib import Path
from typing import Any

from faults import checkers, history
from faults.history import BOOK, INVALIDATE, L2, NO_ANSWER, PAGE, PROBE, STATS, Operation

MS = 1_000_000
A, B = 41, 42
"""Two workers."""


def page(
    t_call: float, text: str, *, worker: int = A, took: float = 1, key: str = "c001", op: str = PAGE
) -> Operation:
    """A page that showed one text; times in milliseconds."""
    return Operation(op, int(t_call * MS), int((t_call + took) * MS), 200, worker=worker, seen={key: text})


def announced(
    t_call: float, version: int, *, worker: int = A, took: float = 1, status: int = 200, key: str = "c001"
) -> Operation:
    """An invalidation of one key, whose new version was live before it."""
    return Operation(
        INVALIDATE, int(t_call * MS), int((t_call + took) * MS), status, worker=worker, live={key: version}
    )


def look(t_call: float, subscriptions: int, worker: int = A) -> Operation:
    """A look at a worker's counters."""
    facts: dict[str, Any] = {"subscriptions": subscriptions, "mode": "both"}
    return Operation(STATS, int(t_call * MS), int((t_call + 1) * MS), 200, worker=worker, facts=facts)


def stale(*operations: Operation) -> list[checkers.Stale]:
    """K1 over the pages of a history."""
    return checkers.stale_reads(operations, checkers.reads(operations))


def test_an_older_version_after_an_acknowledged_invalidation_is_stale() -> None:
    """K1: found with the time from the invalidation's return to the read's call."""
    found = stale(announced(10, 2), page(15, "c001 v1"))
    assert [(one.key, one.lag_ns) for one in found] == [("c001", 4 * MS)]


def test_what_is_no_stale_read() -> None:
    """K1: neither the new version, nor a read that began before the return, nor a refused invalidation, nor
    another key's, nor a placeholder."""
    assert not stale(announced(10, 2), page(15, "c001 v2"))
    assert not stale(announced(10, 2), page(10.5, "c001 v1", took=20))
    assert not stale(announced(10, 2, status=503), page(15, "c001 v1"))
    assert not stale(announced(10, 2, key="c002"), page(15, "c001 v1"))
    assert not stale(announced(10, 2), page(15, "Unknown"))


def test_a_read_counts_against_each_invalidation_that_it_missed() -> None:
    """K1: two newer versions, two entries; a version between them, one; also out of order."""
    history_of_two = [announced(10, 2), announced(20, 3)]
    assert len(stale(*history_of_two, page(30, "c001 v1"))) == 2
    assert len(stale(*history_of_two, page(30, "c001 v2"))) == 1
    assert len(stale(announced(10, 3), announced(20, 2), page(30, "c001 v1"))) == 2
    assert len(stale(announced(10, 3), announced(20, 2), page(30, "c001 v2"))) == 1


def test_the_bound_divides_stale_reads() -> None:
    """K1 and K3: only what is later than the bound is beyond it."""
    found = stale(announced(0, 2, took=0), page(2000, "c001 v1"), page(2001, "c001 v1"))
    assert [one.lag_ns // MS for one in checkers.beyond(found, 2000)] == [2001]


def test_the_distribution_has_one_number_for_each_acknowledged_invalidation() -> None:
    """K1: the last stale read counts, and an invalidation without one counts as 0."""
    operations = [
        announced(0, 2, took=0),
        page(3, "c001 v1"),
        page(7, "c001 v1"),
        page(9, "c001 v2"),
        announced(20, 3, took=0),
        announced(30, 4, status=503),
    ]
    assert checkers.last_stale_ms(operations, stale(*operations)) == [7, 0]


def test_a_stale_read_in_the_invalidating_worker_is_told_apart() -> None:
    """K2: the same worker, not another, and not one that is not known."""
    assert checkers.stale_in_own_worker(stale(announced(10, 2), page(15, "c001 v1")))
    assert not checkers.stale_in_own_worker(stale(announced(10, 2), page(15, "c001 v1", worker=B)))
    assert not checkers.stale_in_own_worker(stale(announced(10, 2, worker=0), page(15, "c001 v1", worker=0)))


def test_no_old_value_may_come_after_a_new_subscription() -> None:
    """K3: the worker subscribed between 30 and 41; the invalidation came before, the read after it."""
    operations = [announced(10, 2, worker=B), look(30, 0), look(40, 1), page(50, "c001 v1")]
    assert checkers.stale_after_resubscribing(operations, stale(*operations))


def test_what_a_new_subscription_does_not_forbid() -> None:
    """K3: a read before it, a read by another worker, an invalidation after it, and no new subscription at all."""
    looks = [look(30, 0), look(40, 1)]
    for rest in (
        [announced(10, 2), page(35, "c001 v1")],
        [announced(10, 2), page(50, "c001 v1", worker=B)],
        [announced(42, 2), page(50, "c001 v1")],
    ):
        operations = [*looks, *rest]
        assert stale(*operations)
        assert not checkers.stale_after_resubscribing(operations, stale(*operations))
    without = [look(30, 1), look(40, 1), announced(10, 2), page(50, "c001 v1")]
    assert not checkers.stale_after_resubscribing(without, stale(*without))


def test_a_worker_may_not_show_an_older_version_after_a_newer_one() -> None:
    """K4: found within a worker and key, also when an overlapping read came between."""
    new, between, old = page(10, "c001 v5"), page(10.5, "c001 v4", took=9), page(20, "c001 v4")
    assert checkers.versions_going_back([old, new, between]) == [(new, old, "c001")]


def test_what_is_no_version_going_back() -> None:
    """K4: neither across workers, nor of overlapping reads, nor forward, nor of another key."""
    new = page(10, "c001 v5", took=5)
    for other in (
        page(20, "c001 v4", worker=B),
        page(12, "c001 v4"),
        page(20, "c001 v5"),
        page(20, "c002 v1", key="c002"),
    ):
        assert not checkers.versions_going_back([new, other])


def test_an_older_version_may_come_back_only_while_the_newer_one_is_refused() -> None:
    """K4: Redis did not take the invalidation, so its older value stands; once it has, no more."""
    new, old = page(10, "c001 v5"), page(30, "c001 v4")
    refused, taken = announced(5, 5, status=503), announced(20, 5)
    assert not checkers.versions_going_back([refused, new, old])
    assert checkers.versions_going_back([refused, new, taken, old])


def test_an_older_version_in_redis_is_found_at_once() -> None:
    """K5: there is no time at all after the invalidation's return."""
    old = Operation(L2, 12 * MS, 13 * MS, 200, seen={"c001": "c001 v1"})
    new = Operation(L2, 12 * MS, 13 * MS, 200, seen={"c001": "c001 v2"})
    assert checkers.resurrected([announced(10, 2), old])
    assert not checkers.resurrected([announced(10, 2), new])
    assert not checkers.resurrected([announced(10, 2), page(12, "c001 v1")])


def test_a_placeholder_in_redis_is_found() -> None:
    """K6: in Redis, not on a page."""
    assert checkers.placeholders_in_l2([Operation(L2, 1, 2, 200, seen={"c001": "Unknown"})])
    assert not checkers.placeholders_in_l2(
        [page(1, "Unknown"), Operation(L2, 1, 2, 200, seen={"c001": "c001 v1"})]
    )


def test_another_keys_value_and_anything_that_is_none_are_found() -> None:
    """K7: on pages and probes; placeholders are allowed."""
    for text in ("c002 v1", "a list", "c001", "c001 v"):
        assert checkers.wrong_identities([page(1, text, op=PROBE)])
    for text in ("c001 v1", "2020 Make c001 v12", "Unknown", ""):
        assert not checkers.wrong_identities([page(1, text)])


def test_failures_are_answers_of_5xx_and_answers_that_never_came() -> None:
    """Of the operations asked for, and no others."""
    operations = [Operation(PAGE, 1, 2, status) for status in (200, 404, 500, 503, NO_ANSWER)]
    assert [op.status for op in checkers.failures(operations)] == [500, 503, NO_ANSWER]
    assert not checkers.failures(operations, (BOOK,))


def test_percentiles_are_values_that_occurred() -> None:
    """Nearest rank; 0 of nothing."""
    values = [float(n) for n in range(1, 101)]
    assert [checkers.percentile(values, p) for p in (0, 50, 99, 100)] == [1, 50, 99, 100]
    assert checkers.percentile([], 99) == 0
    assert checkers.percentile([7.0], 50) == 7


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Also an operation without an answer."""
    operations = [
        announced(10, 2),
        page(15, "c001 v1"),
        look(1, 2),
        Operation(PAGE, 1, 2, NO_ANSWER, request="f-1", facts={"error": "reset"}),
    ]
    history.write(operations, tmp_path / "history.jsonl")
    assert history.read(tmp_path / "history.jsonl") == operations
