"""The history: read only, newest first."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.dataset import World, new_id


def test_history_rows(world: World) -> None:
    """Exactly the promised fields, newest first, as array and as page."""
    appointment_id = world.appointment()
    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    older = world.history_row(appointment_id, changed_at=then, change_reason="Rain")
    newer = world.history_row(appointment_id, changed_at=then + timedelta(seconds=1))
    world.history_row(new_id())
    answer = world.alice.get(f"/appointments/{appointment_id}/history/")
    assert [row["id"] for row in answer.get_json()] == [newer, older]
    assert answer.headers["X-Total-Count"] == "2"
    expected = {
        "id": older,
        "appointment_id": appointment_id,
        "changed_by_user_id": world.erin_id,
        "previous_status": "pending",
        "new_status": "confirmed",
        "change_reason": "Rain",
        "changed_at": "2026-01-02T03:04:05Z",
    }
    assert answer.get_json()[1] == expected
    assert world.alice.get(f"/history/{older}/").get_json() == expected
    page = world.alice.get("/history/?page_size=1&page=2").get_json()
    assert (page["count"], page["results"], page["next"]) == (2, [expected], None)
    assert world.erin.get("/history/").get_json()["count"] == 3
    assert world.erin.get(f"/history/?appointment_id={appointment_id}").get_json()["count"] == 2
    assert set(world.erin.get("/history/?appointment_id=x").get_json()) == {"appointment_id"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_history_is_never_written(world: World, method: str) -> None:
    """No route writes history, for anybody."""
    row_id = world.history_row(world.appointment())
    for path in ("/history/", f"/history/{row_id}/"):
        assert world.ada.ask(method, path, json={}).status_code == 405
    assert world.count("appointment_history") == 1
