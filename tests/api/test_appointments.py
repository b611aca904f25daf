"""Reading appointments: rows, filters, pages and the detail, field by field."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.dataset import TODAY, Dataset, new_id, weekday

ROW_FIELDS = {
    "id", "customer_id", "vehicle_id", "assigned_employee_id", "appointment_type", "scheduled_date",
    "scheduled_time", "status", "customer_name", "vehicle_details", "employee_name",
}  # fmt: skip
DETAIL_FIELDS = ROW_FIELDS | {
    "duration_minutes", "service_description", "customer_notes", "internal_notes", "estimated_cost",
    "duration_seconds", "duration", "time_until_appointment", "created_by_user_id", "created_at", "updated_at",
    "cancelled_at", "completed_at",
}  # fmt: skip


def _ids(body: dict[str, Any]) -> list[str]:
    return [row["id"] for row in body["results"]]


def test_a_row_has_these_fields(dataset: Dataset) -> None:
    """A list row is exactly the promised fields, in the promised spelling."""
    day, start = dataset.start_ahead()
    appointment_id = dataset.appointment(
        scheduled_date=day, scheduled_time=start, assigned_employee_id=dataset.erin_id, status="confirmed"
    )
    page = dataset.alice.get("/appointments/").get_json()
    assert page == {
        "count": 1,
        "next": None,
        "previous": None,
        "results": [
            {
                "id": appointment_id,
                "customer_id": dataset.alice_id,
                "vehicle_id": dataset.alices_car,
                "assigned_employee_id": dataset.erin_id,
                "appointment_type": "repair",
                "scheduled_date": day.isoformat(),
                "scheduled_time": start.isoformat(),
                "status": "confirmed",
                "customer_name": "Alice Ant",
                "vehicle_details": "2020 Toyota Camry",
                "employee_name": "Erin Eel",
            }
        ],
    }


def test_placeholders_stand_in_for_names(dataset: Dataset) -> None:
    """Where nothing is known of an id, the answer says so in the promised words."""
    dataset.appointment(customer_id=new_id(), vehicle_id=new_id())
    dataset.appointment(customer_id=new_id(), vehicle_id=new_id(), assigned_employee_id=new_id())
    rows = dataset.erin.get("/appointments/").get_json()["results"]
    for row in rows:
        assert (row["customer_name"], row["vehicle_details"], row["employee_name"]) == (
            "Unknown",
            "",
            "Unassigned",
        )


def test_names_say_where_they_came_from(dataset: Dataset) -> None:
    """X-Cache counts the distinct references, first from the services, then from this worker's own copy."""
    for _ in range(3):
        dataset.appointment(assigned_employee_id=dataset.erin_id)
    dataset.appointment()
    cold, warm = (dataset.alice.get("/appointments/").headers for _ in range(2))
    assert cold["X-Cache"] == "l1=0 l2=0 upstream=3 stale=0 unknown=0"
    assert warm["X-Cache"] == "l1=3 l2=0 upstream=0 stale=0 unknown=0"
    for headers in (cold, warm):
        parts = [part.split(";dur=") for part in headers["Server-Timing"].split(", ")]
        assert [name for name, _ in parts] == ["db", "cache", "upstream"]
        assert all(float(ms) >= 0 for _, ms in parts)


def test_the_detail_has_these_fields(dataset: Dataset) -> None:
    """A detail is exactly the promised fields; money is text with two decimals, moments end in Z."""
    created = datetime(2025, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    appointment_id = dataset.appointment(
        estimated_cost=Decimal("120.5"), duration_seconds=3725, created_at=created, updated_at=created
    )
    answer = dataset.erin.get(f"/appointments/{appointment_id}/")
    detail = answer.get_json()
    assert set(detail) == DETAIL_FIELDS
    assert detail["estimated_cost"] == "120.50"
    assert detail["duration"] == "01:02:05"
    assert (detail["duration_minutes"], detail["duration_seconds"]) == (60, 3725)
    assert detail["created_at"] == detail["updated_at"] == "2025-01-02T03:04:05.000678Z"
    assert (detail["cancelled_at"], detail["completed_at"]) == (None, None)
    assert detail["internal_notes"] == "A secret of the workshop"
    assert detail["created_by_user_id"] == dataset.alice_id
    assert answer.headers["X-Cache"].endswith("upstream=2 stale=0 unknown=0")
    assert answer.headers["ETag"].startswith('"')


def test_customers_see_no_internal_notes(dataset: Dataset) -> None:
    """For customers the field is not there, in no answer that holds their appointment."""
    path = f"/appointments/{dataset.appointment()}/"
    day, start = dataset.start_ahead()
    answers = [
        dataset.alice.get(path),
        dataset.alice.patch(path, {"customer_notes": "x"}),
        dataset.alice.put(path, {"customer_notes": "y"}),
        dataset.alice.post(
            f"{path}reschedule/", {"new_date": day.isoformat(), "new_time": start.isoformat()}
        ),
        dataset.alice.post(f"{path}cancel/"),
        dataset.alice.get(f"{path}history/"),
        dataset.alice.get("/appointments/"),
        dataset.alice.post("/appointments/", dataset.booking(internal_notes="planted")),
    ]
    for answer in answers:
        assert answer.status_code in {200, 201}, answer.data
        assert b"internal_notes" not in answer.data
        assert b"secret of the workshop" not in answer.data


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (timedelta(days=3, minutes=30), "3 days"),
        (timedelta(days=1, minutes=30), "1 day"),
        (timedelta(hours=2, minutes=5), "2 hours"),
        (timedelta(hours=1, minutes=5), "1 hour"),
        (timedelta(minutes=15, seconds=40), "15 minutes"),
        (timedelta(minutes=1, seconds=40), "1 minute"),
        (timedelta(seconds=40), "0 minutes"),
        (timedelta(seconds=-40), "Past due"),
        (timedelta(days=-3), "Past due"),
    ],
)
def test_the_time_left_is_told_in_its_largest_unit(dataset: Dataset, ahead: timedelta, said: str) -> None:
    """Whole days, else whole hours, else whole minutes, else past due."""
    start = datetime.now(UTC) + ahead
    appointment_id = dataset.appointment(scheduled_date=start.date(), scheduled_time=start.time())
    detail = dataset.alice.get(f"/appointments/{appointment_id}/").get_json()
    assert detail["time_until_appointment"] == said
    assert detail["scheduled_time"] == start.strftime("%H:%M:%S")


def test_the_latest_come_first(dataset: Dataset) -> None:
    """Rows go by date and time downwards, and by id where these are equal."""
    days = [weekday(1), weekday(2)]
    starts = [(day, datetime.min.time().replace(hour=hour)) for day in days for hour in (9, 15, 9)]
    made = [(day, at, dataset.appointment(scheduled_date=day, scheduled_time=at)) for day, at in starts]
    got = _ids(dataset.alice.get("/appointments/").get_json())
    by_start = sorted({(day, at) for day, at, _ in made}, reverse=True)
    expected = [sorted(made_id for day, at, made_id in made if (day, at) == start) for start in by_start]
    rest = iter(got)
    for group in expected:
        assert sorted(next(rest) for _ in group) == group
    assert got == _ids(dataset.alice.get("/appointments/").get_json())


def test_filters_narrow_and_combine(dataset: Dataset) -> None:
    """Each filter keeps what matches it; together they keep what matches all."""
    first, second = weekday(1), weekday(5)
    a = dataset.appointment(scheduled_date=first, status="confirmed", assigned_employee_id=dataset.erin_id)
    b = dataset.appointment(
        scheduled_date=second,
        customer_id=dataset.bob_id,
        vehicle_id=dataset.bobs_car,
        appointment_type="emergency",
    )
    queries = {
        "status=confirmed": {a},
        "status=pending": {b},
        "status=no_show": set(),
        f"start_date={second}": {b},
        f"end_date={first}": {a},
        f"start_date={first}&end_date={second}": {a, b},
        "appointment_type=emergency": {b},
        f"customer_id={dataset.alice_id.upper()}": {a},
        f"employee_id={dataset.erin_id}": {a},
        f"vehicle_id={dataset.bobs_car}": {b},
        f"vehicle_id={dataset.bobs_car}&status=confirmed": set(),
        f"vehicle_id={new_id()}": set(),
        "status=&start_date=&page=&zz=1": {a, b},
    }
    for query, expected in queries.items():
        page = dataset.erin.get(f"/appointments/?{query}").get_json()
        assert (set(_ids(page)), page["count"]) == (expected, len(expected)), query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=Pending", "status"),
        ("appointment_type=x", "appointment_type"),
        ("start_date=01.02.2026", "start_date"),
        ("start_date=2026-2-1", "start_date"),
        ("start_date=2026-W01-1", "start_date"),
        ("end_date=2026-02-30", "end_date"),
        ("start_date=2026-02-02&end_date=2026-02-01", "end_date"),
        ("customer_id=1", "customer_id"),
        ("employee_id=x", "employee_id"),
        ("vehicle_id={}", "vehicle_id"),
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=x", "page"),
        ("page=1.0", "page"),
        ("page=٣", "page"),
        ("page=%D9%A3", "page"),
        ("page=1_0", "page"),
        ("page=+1", "page"),
        ("page=%201", "page"),
        (f"page={'9' * 5000}", "page"),
        ("page_size=0", "page_size"),
        ("page_size=101", "page_size"),
        ("page_size=1000000000", "page_size"),
    ],
)
def test_a_wrong_filter_is_named(dataset: Dataset, query: str, field: str) -> None:
    """A filter that can't be read is a 400 that names it, not an empty page."""
    answer = dataset.erin.get("/appointments/", query_string=query)
    assert answer.status_code == 400
    assert set(answer.get_json()) == {field}


def test_pages_hang_together(dataset: Dataset) -> None:
    """Following `next` shows every row once; `previous` leads back; both keep the filters."""
    made = {dataset.appointment() for _ in range(7)}
    address: str | None = "/api/v1/appointments/?status=pending&page_size=3&zz=a%20b"
    client = dataset.app.test_client()
    headers = dataset.alice._headers
    seen: list[str] = []
    previous = []
    while address:
        page = client.get(address, headers=headers).get_json()
        assert page["count"] == 7
        seen += _ids(page)
        previous.append(page["previous"])
        address = page["next"]
        if address:
            assert address.startswith("http://localhost/api/v1/appointments/?")
            query = parse_qs(urlsplit(address).query)
            assert (query["status"], query["page_size"], query["zz"]) == (["pending"], ["3"], ["a b"])
    assert len(seen) == 7
    assert set(seen) == made
    assert previous[0] is None
    back = client.get(previous[-1], headers=headers).get_json()
    assert _ids(back) == seen[3:6]


@pytest.mark.parametrize(
    ("host", "start"),
    [
        ("garage.example", "http://garage.example/api/v1/"),
        ("10.0.0.1:8005", "http://10.0.0.1:8005/api/v1/"),
        ("[::1]:8005", "http://[::1]:8005/api/v1/"),
        ("evil.example/x?", "/api/v1/"),
        ("user@evil.example", "/api/v1/"),
        ("a b", "/api/v1/"),
        ('a"><script>', "/api/v1/"),
        ("under_score:8005", "/api/v1/"),
    ],
)
def test_links_name_only_what_can_be_a_host(dataset: Dataset, host: str, start: str) -> None:
    """A Host header that is no host's name does not get into an address: the link is relative then."""
    for _ in range(2):
        dataset.appointment()
    page = dataset.alice.get("/appointments/?page_size=1", headers={"Host": host}).get_json()
    assert page["next"] == f"{start}appointments/?page_size=1&page=2"


def test_only_trusted_hosts_are_answered_where_they_are_listed(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flask's own setting decides for which names there are answers, and so links."""
    monkeypatch.setitem(dataset.app.config, "TRUSTED_HOSTS", ["garage.example"])
    known, unknown = (
        dataset.alice.get("/appointments/", headers={"Host": host})
        for host in ("garage.example", "evil.example")
    )
    assert (known.status_code, unknown.status_code) == (200, 400)
    assert set(unknown.get_json()) == {"detail"}


@pytest.mark.parametrize(
    ("rows", "query", "expected"),
    [
        (0, "", 0),
        (0, "page=1", 0),
        (0, "page=2", None),
        (2, "page_size=2", 2),
        (2, "page_size=2&page=2", None),
        (3, "page_size=2&page=2", 1),
        (3, "page_size=2&page=3", None),
        (3, "page_size=100", 3),
        (1, "page=1000000000&page_size=100", None),
        (21, "", 20),
        (21, "page=2", 1),
    ],
)
def test_where_pages_end(dataset: Dataset, rows: int, query: str, expected: int | None) -> None:
    """The first page always exists, the one after the last is a 404; a page has 20 rows unless asked."""
    for _ in range(rows):
        dataset.appointment()
    answer = dataset.alice.get(f"/appointments/?{query}")
    if expected is None:
        assert (answer.status_code, answer.get_json()) == (404, {"detail": "Invalid page."})
    else:
        assert len(answer.get_json()["results"]) == expected


def test_old_rows_are_shown_as_they_are(dataset: Dataset) -> None:
    """A row whose day is long gone is shown, though it could not be booked."""
    old = dataset.appointment(scheduled_date=TODAY - timedelta(days=9000), status="confirmed")
    assert dataset.alice.get(f"/appointments/{old}/").get_json()["time_until_appointment"] == "Past due"


def test_deleting_is_for_good_but_for_the_history(dataset: Dataset) -> None:
    """After DELETE the appointment is gone, its history is not."""
    appointment_id = dataset.appointment()
    dataset.history_row(appointment_id)
    answer = dataset.ada.delete(f"/appointments/{appointment_id}/")
    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert dataset.ada.get(f"/appointments/{appointment_id}/").status_code == 404
    assert dataset.ada.delete(f"/appointments/{appointment_id}/").status_code == 404
    assert dataset.ada.get(f"/history/?appointment_id={appointment_id}").get_json()["count"] == 1
