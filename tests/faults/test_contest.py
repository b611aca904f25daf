"""The verdict over a contested run: it finds each broken rule in a log written by hand, none in a clean one."""

from datetime import datetime
from typing import Any

import pytest

from faults.contest.answers import Kind, Request, broken_answers
from faults.contest.audit import Change
from faults.contest.replay import Replay, Slot

CLOSED = Slot(datetime(2030, 5, 7, 12), datetime(2030, 5, 7, 13), 0)


def row(id_: str, **values: Any) -> dict[str, Any]:
    """An appointment at nine for an hour, of a customer of its own."""
    return {
        "id": id_,
        "customer_id": f"customer of {id_}",
        "assigned_employee_id": None,
        "scheduled_date": "2030-05-07",
        "scheduled_time": "09:00:00",
        "duration_minutes": 60,
        "status": "pending",
        "service_description": f"booking {id_}",
        "customer_notes": "",
    } | values


def booked(id_: str, **values: Any) -> Change:
    """A new appointment."""
    return Change(None, row(id_, **values))


def changed(before: dict[str, Any], **values: Any) -> Change:
    """A change of one."""
    return Change(before, before | values)


def rules(*changes: Change, capacity: int = 2) -> list[str]:
    """The rules that are broken."""
    found = Replay({}, [CLOSED], capacity).run(changes)
    return [violation.partition(":")[0] for violation in found]


def test_a_log_that_breaks_no_rule() -> None:
    """A place is free again after a cancellation, a move or a deletion, and an end touches a start."""
    a, b = row("a"), row("b")
    assert (
        rules(
            booked("a"),
            booked("b"),
            booked("c", scheduled_time="10:00:00"),
            changed(a, status="cancelled"),
            booked("d", scheduled_time="09:30:00", duration_minutes=30),
            Change(b, None),
            booked("e"),
            changed(row("e"), status="confirmed"),
        )
        == []
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ([booked("a"), booked("b"), booked("c", scheduled_time="09:59:00")], "oversold"),
        ([booked("a", scheduled_time="11:30:00")], "oversold"),
        ([booked("a"), booked("b", customer_id="customer of a", scheduled_time="09:29:00")], "too near"),
        ([booked("a"), changed(row("a", status="confirmed"), status="in_progress")], "lost update"),
        ([booked("a"), changed(row("a"), status="completed")], "no such edge"),
        ([booked("a", status="completed")], "no such edge"),
        ([changed(row("a"), status="confirmed")], "lost update"),
        ([Change(row("a"), None)], "lost update"),
    ],
)
def test_each_broken_rule_is_named(changes: list[Change], rule: str) -> None:
    """By the change that broke it."""
    assert rules(*changes) == [rule]


def test_an_employee_is_double_booked_while_two_are_busy() -> None:
    """Pending ones take no time of an employee; a confirmation and an assignment do."""
    a, b = row("a", assigned_employee_id="e"), row("b", assigned_employee_id="e")
    confirmed = changed(a, status="confirmed")
    assert rules(Change(None, a), Change(None, b), confirmed) == []
    assert rules(Change(None, a), Change(None, b), confirmed, changed(b, status="confirmed")) == [
        "double booked"
    ]
    other = row("c", status="confirmed")
    assert rules(
        Change(None, a), confirmed, Change(None, other), changed(other, assigned_employee_id="e")
    ) == ["double booked"]


def test_a_move_is_judged_at_its_new_time() -> None:
    """And leaves its old one."""
    a = row("a")
    moved = changed(a, scheduled_time="10:00:00")
    assert rules(booked("a"), moved, booked("b"), capacity=1) == []
    assert rules(booked("a"), moved, booked("b", scheduled_time="10:30:00"), capacity=1) == ["oversold"]


BOOKED = booked("a")
EDITED = changed(row("a"), customer_notes="request 3")
REASONS = ["request 1", "Rescheduled from here to there: request 2"]


def answers(*requests: Request, changes: tuple[Change, ...] = (BOOKED, EDITED)) -> list[str]:
    """What is wrong with these answers."""
    return [found.partition(":")[0] for found in broken_answers(requests, changes, REASONS)]


def test_answers_that_are_true() -> None:
    """Success that was committed, refusals that were not, and no answer, which leaves it open."""
    assert (
        answers(
            Request(Kind.BOOK, "booking a", 201, ("a",)),
            Request(Kind.BOOK, "booking b", 400),
            Request(Kind.BOOK, "booking a", 0),
            Request(Kind.BOOK, "booking b", 0),
            Request(Kind.ACT, "request 1", 200),
            Request(Kind.ACT, "request 1", 503),
            Request(Kind.RESCHEDULE, "request 2", 200),
            Request(Kind.RESCHEDULE, "request 9", 200),
            Request(Kind.EDIT, "request 3", 200, version=("a", "1")),
            Request(Kind.EDIT, "request 9", 412, version=("a", "1")),
            Request(Kind.DELETE, "", 404),
        )
        == []
    )


@pytest.mark.parametrize(
    ("request_", "broken"),
    [
        (Request(Kind.BOOK, "booking b", 201, ("b",)), "booking lost"),
        (Request(Kind.BOOK, "booking a", 201, ("b",)), "booking lost"),
        (Request(Kind.BOOK, "booking a", 400), "refused and booked"),
        (Request(Kind.ACT, "request 9", 200), "accepted and lost"),
        (Request(Kind.ACT, "request 1", 409), "refused and carried out"),
        (Request(Kind.EDIT, "request 9", 200), "accepted and lost"),
        (Request(Kind.EDIT, "request 3", 412), "refused and carried out"),
        (Request(Kind.DELETE, "", 500), "undocumented answer"),
    ],
)
def test_each_untrue_answer_is_named(request_: Request, broken: str) -> None:
    """By what is wrong with it."""
    assert answers(request_) == [broken]


def test_what_was_carried_out_twice_is_found() -> None:
    """Whatever was answered: one key's booking, one action, two edits of one version."""
    twice = (BOOKED, booked("b", service_description="booking a"))
    assert answers(Request(Kind.BOOK, "booking a", 0), changes=twice) == ["booked twice"]
    assert list(broken_answers([Request(Kind.ACT, "request 1", 0)], [], ["request 1"] * 2)) == [
        "carried out 2 times: act request 1"
    ]
    more = changed(row("a", customer_notes="request 3"), customer_notes="request 4")
    edits = [Request(Kind.EDIT, f"request {n}", 200, version=("a", "1")) for n in (3, 4)]
    assert answers(*edits, changes=(BOOKED, EDITED, more)) == ["lost update"]
