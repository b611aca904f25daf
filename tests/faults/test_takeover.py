"""The verdict over a slow service that several workers need."""

from faults.catalog.takeover import FIRST_NAME_LIMIT_S, MOST_LOADS, broken_promises

SHOWN_S = {41: 1.8, 42: 2.0}


def test_two_loads_and_a_name_on_time_break_nothing() -> None:
    """Also where one worker shows it later than another."""
    assert broken_promises("c005", MOST_LOADS, SHOWN_S, 2) == []


def test_each_violation_is_named() -> None:
    """A load too many, no name in time, a worker without it."""
    assert broken_promises("c005", 3, SHOWN_S, 2) == ["c005 was loaded 3 times"]
    late = {41: FIRST_NAME_LIMIT_S + 1, 42: FIRST_NAME_LIMIT_S + 1}
    assert broken_promises("c005", 1, late, 2) == ["c005 was on no page within 2.3 s"]
    assert broken_promises("c005", 1, SHOWN_S, 3) == ["1 workers never showed c005"]
    assert len(broken_promises("c005", 1, {}, 1)) == 2
