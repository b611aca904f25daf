"""The history: read only, newest first."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.dataset import Dataset, new_id


def test_history_rows(dataset: Dataset) -> None:
    """Exactly the promised fields, newest first, as array and as page."""
    appointment_id = dataset.appointment()
    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    older = dataset.history_row(appointment_id, changed_at=then, change_reason="Rain")
    newer = dataset.history_row(appointment_id, changed_at=then + timedelta(seconds=1))
    dataset.history_row(new_id())
    answer = dataset.alice.get(f"/appointments/{appointment_id}/history/")
    assert [row["id"] for row in answer.get_json()] == [newer, older]
    assert answer.headers["X-Total-Count"] == "2"
    expected = {
        "id": older,
        "appointment_id": appointment_id,
        "changed_by_user_id": dataset.erin_id,
        "previous_status": "pending",
        "new_status": "confirmed",
        "change_reason": "Rain",
        "changed_at": "2026-01-02T03:04:05Z",
    }
    assert answer.get_json()[1] == expected
    assert dataset.alice.get(f"/history/{older}/").get_json() == expected
    page = dataset.alice.get("/history/?page_size=1&page=2").get_json()
    assert (page["count"], page["results"], page["next"]) == (2, [expected], None)
    assert dataset.erin.get("/history/").get_json()["count"] == 3
    assert dataset.erin.get(f"/history/?appointment_id={appointment_id}").get_json()["count"] == 2
    assert set(dataset.erin.get("/history/?appointment_id=x").get_json()) == {"appointment_id"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_history_is_never_written(dataset: Dataset, method: str) -> None:
    """No route writes history, for anybody."""
    row_id = dataset.history_row(dataset.appointment())
    for path in ("/history/", f"/history/{row_id}/"):
        assert dataset.ada.ask(method, path, json={}).status_code == 405
    assert dataset.count("appointment_history") == 1
