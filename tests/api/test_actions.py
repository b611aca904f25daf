"""Actions: what they answer, and that each accepted one leaves one history row."""

from typing import Any

import pytest

from tests.api.test_appointments import DETAIL_FIELDS
from tests.support.dataset import Dataset, new_id

CASES: list[tuple[str, str, str, str]] = [
    ("confirm", "pending", "confirmed", "confirmed"),
    ("start", "confirmed", "in_progress", "in_progress"),
    ("complete", "in_progress", "completed", "completed"),
    ("no_show", "confirmed", "no_show", "no_show"),
    ("cancel", "pending", "cancelled", "cancelled"),
    ("reschedule", "confirmed", "rescheduled", "confirmed"),
    ("assign", "pending", "assigned", "pending"),
]


def _body(dataset: Dataset, action: str) -> dict[str, Any]:
    if action == "reschedule":
        day, start = dataset.start_ahead()
        return {"new_date": day.isoformat(), "new_time": start.isoformat(), "reason": "Rain"}
    return {"employee_id": dataset.emil_id} if action == "assign" else {"reason": "Rain"}


@pytest.mark.parametrize(("action", "before", "word", "after"), CASES)
def test_an_action_answers_what_it_did(
    dataset: Dataset, action: str, before: str, word: str, after: str
) -> None:
    """Word, sentence and detail; one history row by whoever asked."""
    appointment_id = dataset.appointment(status=before)
    body = _body(dataset, action)
    answer = dataset.erin.post(f"/appointments/{appointment_id}/{action}/", body)
    assert answer.status_code == 200, answer.data
    said = answer.get_json()
    assert set(said) == {"status", "message", "appointment"}
    assert (said["status"], said["appointment"]["status"]) == (word, after)
    assert said["message"]
    assert set(said["appointment"]) == DETAIL_FIELDS
    assert said["appointment"]["customer_name"] == "Alice Ant"
    assert "X-Cache" in answer.headers
    if action == "reschedule":
        assert said["appointment"]["scheduled_date"] == body["new_date"]
    if action == "assign":
        assert said["appointment"]["employee_name"] == "Emil Elk"
    rows = dataset.erin.get(f"/appointments/{appointment_id}/history/").get_json()
    assert [(row["previous_status"], row["new_status"]) for row in rows] == [(before, after)]
    assert rows[0]["changed_by_user_id"] == dataset.erin_id


@pytest.mark.parametrize(
    "body", [None, {}, {"reason": "Rain"}, {"reason": ""}, {"zz": 1, "status": "completed"}]
)
def test_a_reason_may_be_given(dataset: Dataset, body: dict[str, str] | None) -> None:
    """Actions need no body; a reason stands in the history; unknown fields are dropped."""
    appointment_id = dataset.appointment()
    answer = dataset.erin.ask("POST", f"/appointments/{appointment_id}/confirm/", json=body)
    assert answer.status_code == 200, answer.data
    [row] = dataset.erin.get(f"/appointments/{appointment_id}/history/").get_json()
    assert (row["new_status"], row["change_reason"]) == ("confirmed", (body or {}).get("reason", ""))


@pytest.mark.parametrize("action", ["start", "complete", "no_show"])
def test_a_forbidden_step_is_a_rule(dataset: Dataset, action: str) -> None:
    """A step that the status does not allow is a 400 with sentences, and leaves no trace."""
    appointment_id = dataset.appointment(status="pending")
    answer = dataset.erin.post(f"/appointments/{appointment_id}/{action}/")
    assert (answer.status_code, set(answer.get_json())) == (400, {"detail"})
    assert isinstance(answer.get_json()["detail"], list)
    assert dataset.count("appointment_history") == 0


def test_reschedule_needs_a_time(dataset: Dataset) -> None:
    """Both new values are named when they are missing or wrong."""
    path = f"/appointments/{dataset.appointment()}/reschedule/"
    assert set(dataset.alice.post(path, {}).get_json()) == {"new_date", "new_time"}
    answer = dataset.alice.post(path, {"new_date": "x", "new_time": "9"})
    assert (answer.status_code, set(answer.get_json())) == (400, {"new_date", "new_time"})


def test_assign_needs_an_employee(dataset: Dataset) -> None:
    """The employee is named when missing or no UUID; the same one again writes no history."""
    path = f"/appointments/{dataset.appointment()}/assign/"
    for body in ({}, {"employee_id": "x"}, {"employee_id": None}):
        answer = dataset.erin.post(path, body)
        assert (answer.status_code, set(answer.get_json())) == (400, {"employee_id"})
    for _ in range(2):
        assert dataset.erin.post(path, {"employee_id": dataset.emil_id.upper()}).status_code == 200
    assert dataset.count("appointment_history") == 1


def test_unknown_appointments_have_no_actions(dataset: Dataset) -> None:
    """Every action on an id that nobody has is a 404."""
    for action, *_ in CASES:
        answer = dataset.ada.post(f"/appointments/{new_id()}/{action}/", _body(dataset, action))
        assert answer.status_code == 404, action
