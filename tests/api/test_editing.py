"""Changing fields: who may change what, all or nothing, and only what one has seen."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from tests.support.dataset import Dataset, new_id

READ_ONLY = {
    "id": new_id(),
    "customer_id": new_id(),
    "vehicle_id": new_id(),
    "scheduled_date": "2030-01-01",
    "scheduled_time": "10:00:00",
    "assigned_employee_id": new_id(),
    "created_by_user_id": new_id(),
    "created_at": "2020-01-01T00:00:00Z",
    "updated_at": "2020-01-01T00:00:00Z",
    "cancelled_at": None,
    "completed_at": None,
    "customer_name": "X",
    "duration": "00:00:01",
    "zz": 1,
}
STAFF_ONLY: dict[str, Any] = {
    "appointment_type": "inspection",
    "duration_minutes": 45,
    "internal_notes": "x",
    "estimated_cost": "5.00",
    "status": "confirmed",
    "duration_seconds": 5,
}


@pytest.fixture
def path(dataset: Dataset) -> str:
    """A pending appointment of Alice's."""
    return f"/appointments/{dataset.appointment()}/"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_customers_change_two_fields(dataset: Dataset, path: str, method: str) -> None:
    """Their description and notes; the answer is the detail with a new entity tag."""
    before = dataset.alice.get(path)
    change = {"service_description": "Clutch", "customer_notes": "Ring twice"}
    answer = dataset.alice.ask(method, path, json=change)
    assert answer.status_code == 200, answer.data
    assert {name: answer.get_json()[name] for name in change} == change
    assert answer.headers["ETag"] != before.headers["ETag"]
    assert answer.headers["ETag"] == dataset.alice.get(path).headers["ETag"]
    assert "X-Cache" in answer.headers


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_staff_change_four_more(dataset: Dataset, path: str, method: str) -> None:
    """Type, length, internal notes and cost; what is left out stays, for PUT too."""
    change = {name: STAFF_ONLY[name] for name in ("appointment_type", "duration_minutes", "internal_notes")}
    answer = dataset.erin.ask(method, path, json={**change, "estimated_cost": 12.5})
    assert answer.status_code == 200, answer.data
    detail = answer.get_json()
    assert {name: detail[name] for name in change} == change
    assert (detail["estimated_cost"], detail["service_description"]) == ("12.50", "Brakes")
    assert dataset.erin.ask(method, path, json={"estimated_cost": None}).get_json()["estimated_cost"] is None


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("field", [*READ_ONLY, *STAFF_ONLY])
def test_customers_may_change_nothing_else(dataset: Dataset, path: str, method: str, field: str) -> None:
    """Any other field is a 400 that names it, and what came along with it is not written either."""
    before = dataset.stored(path.split("/")[2])
    value = {**READ_ONLY, **STAFF_ONLY}[field]
    answer = dataset.alice.ask(method, path, json={"customer_notes": "x", field: value})
    assert (answer.status_code, set(answer.get_json())) == (400, {field})
    assert dataset.stored(path.split("/")[2]) == before


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("field", READ_ONLY)
def test_staff_may_not_change_these_either(dataset: Dataset, path: str, method: str, field: str) -> None:
    """Schedule, employee, owner and the service's own fields are refused by name."""
    before = dataset.stored(path.split("/")[2])
    answer = dataset.erin.ask(method, path, json={"internal_notes": "x", field: READ_ONLY[field]})
    assert (answer.status_code, set(answer.get_json())) == (400, {field})
    assert dataset.stored(path.split("/")[2]) == before


def test_a_staff_patch_of_the_status_is_the_action(dataset: Dataset, path: str) -> None:
    """It follows the same rules and writes the same history row; other fields may come along."""
    answer = dataset.erin.patch(path, {"status": "confirmed", "internal_notes": "x"})
    assert answer.status_code == 200, answer.data
    assert (answer.get_json()["status"], answer.get_json()["internal_notes"]) == ("confirmed", "x")
    history = dataset.erin.get(f"{path}history/").get_json()
    assert [(row["previous_status"], row["new_status"]) for row in history] == [("pending", "confirmed")]
    refused = dataset.erin.patch(path, {"status": "completed", "internal_notes": "y"})
    assert (refused.status_code, set(refused.get_json())) == (400, {"detail"})
    assert dataset.erin.get(path).get_json()["internal_notes"] == "x"
    assert dataset.count("appointment_history") == 1


def test_a_staff_patch_of_the_work_time(dataset: Dataset, path: str) -> None:
    """The employee service notes how long the work took."""
    answer = dataset.erin.patch(path, {"duration_seconds": 7322})
    assert (answer.get_json()["duration_seconds"], answer.get_json()["duration"]) == (7322, "02:02:02")


@pytest.mark.parametrize("field", ["status", "duration_seconds"])
def test_put_has_no_such_exceptions(dataset: Dataset, path: str, field: str) -> None:
    """Status and work time by PUT are refused by name."""
    answer = dataset.erin.put(path, {field: STAFF_ONLY[field]})
    assert (answer.status_code, set(answer.get_json())) == (400, {field})


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_empty_change_changes_nothing(dataset: Dataset, path: str, method: str) -> None:
    """No field is no mistake."""
    before = dataset.alice.get(path).headers["ETag"]
    assert dataset.alice.ask(method, path, json={}).headers["ETag"] == before
    assert dataset.alice.ask(method, path).headers["ETag"] == before


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_change_of_what_one_has_seen(dataset: Dataset, path: str, method: str) -> None:
    """If-Match lets the current tag in, alone, in a list or as a star, and stops an old one with 412."""
    tag = dataset.alice.get(path).headers["ETag"]
    old, notes = tag, 0
    for seen in ("*", "{}", '"other", {}'):
        notes += 1
        current = dataset.alice.get(path).headers["ETag"]
        answer = dataset.alice.ask(
            method, path, json={"customer_notes": str(notes)}, headers={"If-Match": seen.format(current)}
        )
        assert answer.status_code == 200, seen
    for stale in (old, f"W/{answer.headers['ETag']}", '"other"', "nonsense"):
        refused = dataset.alice.ask(method, path, json={"customer_notes": "x"}, headers={"If-Match": stale})
        assert (refused.status_code, set(refused.get_json())) == (412, {"detail"}), stale
    assert dataset.alice.get(path).get_json()["customer_notes"] == str(notes)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_of_many_unknown_fields_twenty_are_named(dataset: Dataset, path: str, method: str) -> None:
    """The answer to a body of 1 MB is short, and does not wait for a change of the same row that is under way."""
    appointment_id = path.split("/")[2]
    body = json.dumps({f"x{number}": 1 for number in range(80_000)}, separators=(",", ":"))
    with dataset.container.database.transaction() as connection:
        connection.execute(
            text("SELECT 1 FROM appointments WHERE id = :id FOR UPDATE"), {"id": appointment_id}
        )
        answer = dataset.erin.ask(method, path, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert set(answer.get_json()) == {f"x{number}" for number in range(20)}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_up_to_twenty_unknown_fields_tell_nothing_of_others_rows(
    dataset: Dataset, path: str, method: str
) -> None:
    """The owner learns their names; for another customer the appointment is not there."""
    body = {f"x{number}": 1 for number in range(20)}
    assert set(dataset.alice.ask(method, path, json=body).get_json()) == set(body)
    assert dataset.bob.ask(method, path, json=body).status_code == 404
