"""Appointments seen from one side, free starts and numbers."""

from datetime import UTC, datetime, timedelta
from datetime import time as clock
from typing import Any

import pytest

from tests.api.test_appointments import ROW_FIELDS
from tests.support.dataset import TODAY, Dataset, weekday

ARRAYS = {
    "customer_appointments": "customer_id",
    "employee_schedule": "employee_id",
    "vehicle_history": "vehicle_id",
}


def _subject(dataset: Dataset, path: str) -> str:
    return {
        "customer_id": dataset.alice_id,
        "employee_id": dataset.erin_id,
        "vehicle_id": dataset.alices_car,
    }[ARRAYS[path]]


@pytest.mark.parametrize("path", ARRAYS)
def test_an_array_of_rows(dataset: Dataset, path: str) -> None:
    """Without `page` the answer is an array of list rows, the latest first, with their number in a header."""
    made = {dataset.appointment(assigned_employee_id=dataset.erin_id) for _ in range(3)}
    dataset.appointment(customer_id=dataset.bob_id, vehicle_id=dataset.bobs_car)
    answer = dataset.erin.get(f"/appointments/{path}/?{ARRAYS[path]}={_subject(dataset, path)}")
    rows = answer.get_json()
    assert {row["id"] for row in rows} == made
    assert all(set(row) == ROW_FIELDS for row in rows)
    starts = [(row["scheduled_date"], row["scheduled_time"]) for row in rows]
    assert starts == sorted(starts, reverse=True)
    assert answer.headers["X-Total-Count"] == "3"
    assert "X-Cache" in answer.headers
    assert rows[0]["employee_name"] == "Erin Eel"


@pytest.mark.parametrize("path", ARRAYS)
def test_with_page_it_is_a_page(dataset: Dataset, path: str) -> None:
    """`page` turns the array into a page; filters work in both."""
    for status in ("pending", "pending", "cancelled"):
        dataset.appointment(assigned_employee_id=dataset.erin_id, status=status)
    base = f"/appointments/{path}/?{ARRAYS[path]}={_subject(dataset, path)}"
    page = dataset.erin.get(f"{base}&page=1&page_size=2").get_json()
    assert (page["count"], len(page["results"]), page["previous"]) == (3, 2, None)
    assert f"{ARRAYS[path]}=" in page["next"]
    assert dataset.erin.get(f"{base}&page=3&page_size=2").status_code == 404
    assert len(dataset.erin.get(f"{base}&status=pending").get_json()) == 2
    assert dataset.erin.get(f"{base}&status=pending&page=1").get_json()["count"] == 2


@pytest.mark.parametrize("path", ARRAYS)
def test_the_subject_has_to_be_named(dataset: Dataset, path: str) -> None:
    """Without the id, or with none that could be one, there is a 400 that names it."""
    for query in ("", f"?{ARRAYS[path]}=", f"?{ARRAYS[path]}=x"):
        answer = dataset.erin.get(f"/appointments/{path}/{query}")
        assert (answer.status_code, set(answer.get_json())) == (400, {ARRAYS[path]})


def test_an_array_stops_at_500_rows(dataset: Dataset) -> None:
    """The header tells how many there are in all."""
    for number in range(502):
        dataset.appointment(scheduled_date=TODAY - timedelta(days=number), status="completed")
    answer = dataset.alice.get(f"/appointments/customer_appointments/?customer_id={dataset.alice_id}")
    assert (len(answer.get_json()), answer.headers["X-Total-Count"]) == (500, "502")


def test_the_employee_services_page(dataset: Dataset) -> None:
    """The employee service asks by path and gets a page; an id that is none is a 404."""
    made = dataset.appointment(assigned_employee_id=dataset.erin_id)
    page = dataset.erin.get(f"/appointments/employee/{dataset.erin_id}/").get_json()
    assert ([row["id"] for row in page["results"]], page["count"]) == ([made], 1)
    assert dataset.erin.get(f"/appointments/employee/{dataset.emil_id}/").get_json()["count"] == 0
    assert dataset.erin.get("/appointments/employee/x/").status_code == 404


def _slots(dataset: Dataset, query: str) -> Any:
    return dataset.alice.get(f"/appointments/available_slots/?{query}")


def test_free_starts(dataset: Dataset) -> None:
    """A weekday without slots has hourly starts from 9 to 17; what is booked lowers the capacity."""
    day = weekday(3)
    for _ in range(3):
        dataset.appointment(scheduled_date=day, scheduled_time=clock(9))
    dataset.appointment(scheduled_date=day, scheduled_time=clock(11))
    body = _slots(dataset, f"start_date={day}&end_date={day}&duration_minutes=60").get_json()
    assert body["count"] == len(body["slots"])
    assert set(body["slots"][0]) == {"date", "start_time", "end_time", "available_capacity"}
    capacity = {slot["start_time"]: slot["available_capacity"] for slot in body["slots"]}
    assert capacity == {"10:00:00": 3, "11:00:00": 2, **{f"{hour}:00:00": 3 for hour in range(12, 17)}}
    assert body["slots"][0] == {
        "date": day.isoformat(), "start_time": "10:00:00", "end_time": "11:00:00", "available_capacity": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", {"start_date", "end_date"}),
        (f"start_date={TODAY}", {"end_date"}),
        (f"start_date={TODAY}&end_date={TODAY - timedelta(days=1)}", {"end_date"}),
        (f"start_date={TODAY}&end_date={TODAY + timedelta(days=92)}", {"end_date"}),
        (f"start_date={TODAY}&end_date={TODAY.replace(year=TODAY.year + 100, day=1)}", {"end_date"}),
        (f"start_date={TODAY}&end_date={TODAY}&duration_minutes=0", {"duration_minutes"}),
        (f"start_date={TODAY}&end_date={TODAY}&duration_minutes=x", {"duration_minutes"}),
    ],
)
def test_what_free_starts_can_not_be_asked_for(dataset: Dataset, query: str, fields: set[str]) -> None:
    """Both ends are needed, in order, at most 92 days apart; the length is a length."""
    answer = _slots(dataset, query)
    assert (answer.status_code, set(answer.get_json())) == (400, fields), answer.data


def test_92_days_are_allowed(dataset: Dataset) -> None:
    """The longest range that is."""
    assert _slots(dataset, f"start_date={TODAY}&end_date={TODAY + timedelta(days=91)}").status_code == 200


def test_numbers(dataset: Dataset) -> None:
    """Every status has its number, also with 0; types only where they occur."""
    now = datetime.now(UTC)
    dataset.appointment(status="completed", scheduled_date=TODAY, completed_at=now)
    dataset.appointment(appointment_type="emergency")
    dataset.appointment(customer_id=dataset.bob_id, status="cancelled")
    assert dataset.erin.get("/appointments/stats/").get_json() == {
        "total_appointments": 3,
        "pending": 1,
        "confirmed": 0,
        "in_progress": 0,
        "completed": 1,
        "cancelled": 1,
        "no_show": 0,
        "today": 1,
        "completed_today": 1,
        "upcoming": 1,
        "by_type": {"repair": 2, "emergency": 1},
    }
    own = dataset.bob.get("/appointments/stats/").get_json()
    assert (own["total_appointments"], own["cancelled"], own["by_type"]) == (1, 1, {"repair": 1})
