"""Booking: what is asked for, who may, and once for each Idempotency-Key."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import time, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from servease_appt.app import create_app
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from tests.api.test_appointments import DETAIL_FIELDS
from tests.support.dataset import TODAY, Asker, Dataset, new_id, token

KEY = "Idempotency-Key"


class Died(BaseException):
    """The worker is gone."""


def _dies(*_: object, **__: object) -> None:
    raise Died


def test_a_booking_answers_with_its_detail(dataset: Dataset) -> None:
    """201 with the detail, an ETag, the names and where the booking is now found."""
    asked = dataset.booking(service_description="Oil", customer_notes="Call me", duration_minutes=90)
    answer = dataset.alice.post("/appointments/", asked)
    assert answer.status_code == 201, answer.data
    detail = answer.get_json()
    assert set(detail) == DETAIL_FIELDS - {"internal_notes"}
    assert {name: detail[name] for name in asked} == asked
    assert (detail["status"], detail["created_by_user_id"]) == ("pending", dataset.alice_id)
    assert (detail["customer_name"], detail["vehicle_details"]) == ("Alice Ant", "2020 Toyota Camry")
    assert detail["employee_name"] == "Unassigned"
    assert "X-Cache" in answer.headers
    assert "Server-Timing" in answer.headers
    found = dataset.app.test_client().get(answer.headers["Location"], headers=dataset.alice._headers)
    assert found.get_json()["id"] == detail["id"]
    assert found.headers["ETag"] == answer.headers["ETag"]


def test_what_may_be_left_out_has_a_default(dataset: Dataset) -> None:
    """The length is the operator's default, texts are empty, the cost is open; HH:MM is a time too."""
    asked = dataset.booking()
    asked["scheduled_time"] = asked["scheduled_time"][:5]
    detail = dataset.erin.post("/appointments/", asked).get_json()
    assert (detail["duration_minutes"], detail["estimated_cost"]) == (60, None)
    assert (detail["service_description"], detail["customer_notes"], detail["internal_notes"]) == ("", "", "")
    assert detail["scheduled_time"] == f"{asked['scheduled_time']}:00"
    assert (detail["duration_seconds"], detail["duration"]) == (0, "00:00:00")


def test_staff_may_say_more(dataset: Dataset) -> None:
    """Staff books for anyone, with notes, cost and employee."""
    asked = dataset.booking(
        customer_id=dataset.bob_id,
        vehicle_id=dataset.bobs_car,
        internal_notes="VIP",
        estimated_cost="99.9",
        assigned_employee_id=dataset.emil_id,
    )
    detail = dataset.erin.post("/appointments/", asked).get_json()
    assert detail["internal_notes"] == "VIP"
    assert detail["estimated_cost"] == "99.90"
    assert (detail["assigned_employee_id"], detail["employee_name"]) == (dataset.emil_id, "Emil Elk")
    assert detail["created_by_user_id"] == dataset.erin_id


def test_what_is_not_the_callers_to_say_is_ignored(dataset: Dataset) -> None:
    """Ids, status and times are the service's; a customer's notes, cost and employee are the workshop's."""
    planted = {
        "id": new_id(),
        "status": "completed",
        "created_by_user_id": dataset.bob_id,
        "created_at": "2001-01-01T00:00:00Z",
        "completed_at": "2001-01-01T00:00:00Z",
        "duration_seconds": 5,
        "zz": {"a": [1]},
        "internal_notes": 17,
        "estimated_cost": "free",
        "assigned_employee_id": "nobody",
    }
    answer = dataset.alice.post("/appointments/", dataset.booking(**planted))
    assert answer.status_code == 201, answer.data
    row = dataset.stored(answer.get_json()["id"])
    assert (row["status"], row["created_by_user_id"], row["completed_at"]) == (
        "pending",
        dataset.alice_id,
        None,
    )
    assert (row["internal_notes"], row["estimated_cost"], row["assigned_employee_id"]) == ("", None, None)
    assert row["duration_seconds"] == 0


def test_every_missing_field_is_named_at_once(dataset: Dataset) -> None:
    """An empty body tells all that is needed."""
    answer = dataset.alice.post("/appointments/", {})
    assert answer.status_code == 400
    assert set(answer.get_json()) == {
        "customer_id", "vehicle_id", "appointment_type", "scheduled_date", "scheduled_time",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("customer_id", "x"),
        ("vehicle_id", None),
        ("appointment_type", "wash"),
        ("scheduled_date", "2026-02-30"),
        ("scheduled_date", "2026-W01-1"),
        ("scheduled_date", "20300101"),
        ("scheduled_date", "9999-12-31"),
        ("scheduled_time", "25:00"),
        ("duration_minutes", 0),
        ("duration_minutes", 7 * 24 * 60 + 1),
        ("duration_minutes", True),
        ("duration_minutes", 1.5),
        ("service_description", "a\x00b"),
        ("service_description", "x" * 5001),
        ("customer_notes", 5),
        ("estimated_cost", "-1"),
        ("estimated_cost", "1.234"),
        ("estimated_cost", "100000000"),
        ("assigned_employee_id", "x"),
    ],
)
def test_a_wrong_field_is_named(dataset: Dataset, field: str, value: object) -> None:
    """One wrong value is a 400 for that field, and nothing is booked."""
    answer = dataset.erin.post("/appointments/", dataset.booking(**{field: value}))
    assert (answer.status_code, set(answer.get_json())) == (400, {field}), answer.data
    assert dataset.count("appointments") == 0


def test_parsing_comes_before_permission(dataset: Dataset) -> None:
    """A body that can't be read is a 400 even where the booking would be somebody else's."""
    foreign = dataset.booking(customer_id=dataset.bob_id)
    assert dataset.alice.post("/appointments/", foreign).status_code == 403
    assert dataset.alice.post("/appointments/", {**foreign, "scheduled_date": "x"}).status_code == 400


def test_references_are_asked_for(dataset: Dataset) -> None:
    """A customer nobody knows and a car that is not theirs are named; no name of the real owner comes back."""
    answer = dataset.alice.post("/appointments/", dataset.booking(vehicle_id=dataset.bobs_car))
    assert (answer.status_code, set(answer.get_json())) == (400, {"vehicle_id"})
    assert b"Bob" not in answer.data
    stranger = new_id()
    answer = dataset.erin.post("/appointments/", dataset.booking(customer_id=stranger))
    assert (answer.status_code, set(answer.get_json())) == (400, {"customer_id"})


@pytest.mark.parametrize("first_by", ["account", "own"])
def test_the_thirty_minutes_hold_for_a_customers_second_id(dataset: Dataset, first_by: str) -> None:
    """The customer service knows one by the id of their account and by its own: that is one customer."""
    account, own, car = new_id(), new_id(), new_id()
    dataset.fake_services.customers.put(
        {"id": account, "own_id": own, "full_name": "Carl Cat", "email": "carl@example.com"}
    )
    dataset.fake_services.vehicles.put(
        {"id": car, "year": 2020, "make": "Opel", "model": "Corsa", "customer_id": account}
    )
    first, second = (account, own) if first_by == "account" else (own, account)
    asked = dataset.booking(customer_id=first, vehicle_id=car, scheduled_time="10:00:00")
    assert dataset.erin.post("/appointments/", asked).status_code == 201
    near = {**asked, "customer_id": second, "scheduled_time": "10:29:00"}
    answer = dataset.erin.post("/appointments/", near)
    assert (answer.status_code, set(answer.get_json())) == (400, {"detail"}), answer.data
    far = {**near, "scheduled_time": "10:30:00"}
    assert dataset.erin.post("/appointments/", far).get_json()["customer_id"] == second


def test_an_unknown_employee_is_refused(dataset: Dataset) -> None:
    """On booking and on assigning, by the name that the field has there; nothing is written."""
    stranger = new_id()
    answer = dataset.erin.post("/appointments/", dataset.booking(assigned_employee_id=stranger))
    assert (answer.status_code, set(answer.get_json())) == (400, {"assigned_employee_id"})
    assert dataset.count("appointments") == 0
    booked = dataset.appointment()
    answer = dataset.erin.post(f"/appointments/{booked}/assign/", {"employee_id": stranger})
    assert (answer.status_code, set(answer.get_json())) == (400, {"employee_id"})
    assert dataset.stored(booked)["assigned_employee_id"] is None
    assert dataset.count("appointment_history") == 0


def test_an_employee_is_asked_for_afresh(dataset: Dataset) -> None:
    """A name that the cache still has is no proof; the employee that is assigned already is not asked for."""
    booked = dataset.appointment()
    answer = dataset.erin.post(f"/appointments/{booked}/assign/", {"employee_id": dataset.emil_id})
    assert answer.get_json()["appointment"]["employee_name"] == "Emil Elk"
    dataset.fake_services.employees.rule(status=404)
    answer = dataset.erin.post("/appointments/", dataset.booking(assigned_employee_id=dataset.emil_id))
    assert (answer.status_code, set(answer.get_json())) == (400, {"assigned_employee_id"})
    again = dataset.erin.post(f"/appointments/{booked}/assign/", {"employee_id": dataset.emil_id})
    assert again.status_code == 200
    assert dataset.count("appointment_history") == 1


def test_without_the_employee_service_staff_goes_on(dataset: Dataset) -> None:
    """Booked and assigned all the same, and counted."""
    counted = b'servease_unchecked_bookings_total{reference="employee"} '
    dataset.fake_services.employees.rule(status=500)
    before = _count(dataset, counted)
    asked = dataset.booking(assigned_employee_id=dataset.emil_id)
    assert dataset.erin.post("/appointments/", asked).status_code == 201
    booked = dataset.appointment()
    answer = dataset.erin.post(f"/appointments/{booked}/assign/", {"employee_id": dataset.erin_id})
    assert answer.status_code == 200
    assert _count(dataset, counted) == before + 2


def _count(dataset: Dataset, name: bytes) -> float:
    (line,) = [line for line in dataset.container.metrics.text().splitlines() if line.startswith(name)]
    return float(line.rpartition(b" ")[2])


def test_without_the_vehicle_service_customers_wait(dataset: Dataset) -> None:
    """A customer gets 503 with Retry-After, staff books all the same and it is counted."""
    dataset.fake_services.vehicles.rule(status=500)
    answer = dataset.alice.post("/appointments/", dataset.booking())
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert set(answer.get_json()) == {"detail"}
    before = dataset.container.metrics.text().count(b"servease_unchecked_bookings_total{")
    assert dataset.erin.post("/appointments/", dataset.booking()).status_code == 201
    counted = dataset.container.metrics.text()
    assert b'servease_unchecked_bookings_total{reference="vehicle"}' in counted
    assert counted.count(b"servease_unchecked_bookings_total{") >= before


@pytest.fixture
def own_dataset(environment: dict[str, str], fake_services: FakeServices) -> Iterator[Dataset]:
    """An application of the test's own, whose breakers no other test meets; a call may take two seconds."""
    app = create_app(Settings.from_mapping({**environment, "UPSTREAM_TIMEOUT": "2"}))
    dataset = Dataset(app, fake_services)
    dataset.clear()
    yield dataset
    dataset.container.close()


def test_a_service_that_hangs_does_not_hold_every_booking(own_dataset: Dataset) -> None:
    """Four wait for it; the others are told to come back before those four have their answer."""
    own_dataset.fake_services.customers.rule(hold=True)
    order: list[str | None] = []

    def book(_: int) -> TestResponse:
        asker = Asker(own_dataset.app, token(user_id=own_dataset.alice_id))
        answer = asker.post("/appointments/", own_dataset.booking())
        order.append(answer.headers["Retry-After"])
        return answer

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(book, range(12)))
    assert {answer.status_code for answer in answers} == {503}
    assert order == ["1"] * 8 + ["5"] * 4


@pytest.mark.parametrize(
    "broken",
    [
        {"scheduled_date": (TODAY - timedelta(days=2)).isoformat()},
        {"scheduled_date": "1900-01-01"},
    ],
)
def test_a_broken_rule_is_a_detail(dataset: Dataset, broken: dict[str, Any]) -> None:
    """Rules are told as sentences under `detail`."""
    answer = dataset.alice.post("/appointments/", dataset.booking(**broken))
    assert answer.status_code == 400
    assert set(answer.get_json()) == {"detail"}
    assert all(isinstance(sentence, str) for sentence in answer.get_json()["detail"])


def test_the_same_key_gets_the_first_answer(dataset: Dataset) -> None:
    """Same status, same bytes, same entity tag, one row; with or without the slash."""
    asked = dataset.booking()
    first = dataset.alice.post("/appointments/", asked, headers={KEY: "k-1"})
    again = dataset.alice.post("/appointments", asked, headers={KEY: "k-1"})
    assert first.status_code == 201
    for name in ("ETag", "Location", "X-Cache", "Content-Type"):
        assert again.headers[name] == first.headers[name]
    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert "Server-Timing" in again.headers
    assert dataset.count("appointments") == 1


def test_a_kept_answer_outlives_what_it_tells_of(dataset: Dataset) -> None:
    """The first answer comes again even when the appointment has changed since."""
    asked = dataset.booking()
    first = dataset.alice.post("/appointments/", asked, headers={KEY: "k-2"})
    dataset.alice.post(f"/appointments/{first.get_json()['id']}/cancel/")
    again = dataset.alice.post("/appointments/", asked, headers={KEY: "k-2"})
    assert again.data == first.data


def test_a_refusal_is_not_kept(dataset: Dataset) -> None:
    """A request that a rule refused is refused in the same words again, and leaves no row behind."""
    dataset.slot(date=TODAY + timedelta(days=2), start_time=time(9), end_time=time(10), is_available=False)
    day = (TODAY + timedelta(days=2)).isoformat()
    asked = dataset.booking(scheduled_date=day, scheduled_time="09:00:00")
    first, again = (dataset.alice.post("/appointments/", asked, headers={KEY: "k-3"}) for _ in range(2))
    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert first.status_code == 400
    assert dataset.count("idempotency_keys") == 0


def test_a_key_of_staff_is_not_answered_to_a_customer(dataset: Dataset) -> None:
    """The same user with a token of another role: 422, and nothing of what only staff may see."""
    staff = Asker(dataset.app, token(user_id=dataset.alice_id, user_role="employee"))
    asked = dataset.booking(internal_notes="a secret")
    assert staff.post("/appointments/", asked, headers={KEY: "k-9"}).get_json()["internal_notes"]
    answer = dataset.alice.post("/appointments/", asked, headers={KEY: "k-9"})
    assert answer.status_code == 422
    assert b"secret" not in answer.data


def test_a_booking_whose_answer_was_lost_is_answered_at_once(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker died between its commit and its answer: the next try gets 201 with what was booked."""
    asked = dataset.booking()
    with monkeypatch.context() as broken:
        broken.setattr("servease_appt.api.resources.booking.detail_response", _dies)
        with pytest.raises(Died):
            dataset.alice.post("/appointments/", asked, headers={KEY: "k-10"})
    assert dataset.count("appointments") == 1
    first, again = (dataset.alice.post("/appointments/", asked, headers={KEY: "k-10"}) for _ in range(2))
    assert (first.status_code, again.status_code, again.data) == (201, 201, first.data)
    assert dataset.stored(first.get_json()["id"])["customer_id"] == dataset.alice_id
    assert dataset.count("appointments") == 1


def test_an_answer_that_was_none_is_not_kept(dataset: Dataset) -> None:
    """After a 503 the same key books."""
    asked = dataset.booking()
    dataset.fake_services.customers.rule(status=500, times=2)
    assert dataset.alice.post("/appointments/", asked, headers={KEY: "k-4"}).status_code == 503
    dataset.fake_services.customers.rule()
    assert dataset.alice.post("/appointments/", asked, headers={KEY: "k-4"}).status_code == 201


def test_another_body_under_the_same_key_is_422(dataset: Dataset) -> None:
    """A key stands for one request."""
    asked = dataset.booking()
    dataset.alice.post("/appointments/", asked, headers={KEY: "k-5"})
    answer = dataset.alice.post("/appointments/", {**asked, "customer_notes": "x"}, headers={KEY: "k-5"})
    assert (answer.status_code, set(answer.get_json())) == (422, {"detail"})


def test_keys_are_each_users_own(dataset: Dataset) -> None:
    """Two users may use the same key for different bookings."""
    first = dataset.alice.post("/appointments/", dataset.booking(), headers={KEY: "k-6"})
    asked = dataset.booking(customer_id=dataset.bob_id, vehicle_id=dataset.bobs_car)
    second = dataset.bob.post("/appointments/", asked, headers={KEY: "k-6"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.get_json()["id"] != second.get_json()["id"]


@pytest.mark.parametrize(("key", "status"), [("k" * 255, 201), ("k" * 256, 400), ("", 400)])
def test_how_long_a_key_may_be(dataset: Dataset, key: str, status: int) -> None:
    """1 to 255 characters."""
    answer = dataset.alice.post("/appointments/", dataset.booking(), headers={KEY: key})
    assert answer.status_code == status, answer.data
    if status == 400:
        assert set(answer.get_json()) == {KEY}


def test_a_key_that_is_being_answered_is_409(dataset: Dataset) -> None:
    """While the first request waits for an upstream, the same key is told so; afterwards it gets the answer."""
    asked = dataset.booking()
    dataset.fake_services.customers.rule(hold=True)

    def first() -> Any:
        return Asker(dataset.app, token(user_id=dataset.alice_id)).post(
            "/appointments/", asked, headers={KEY: "k-7"}
        )

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(first)
        dataset.fake_services.customers.wait_for(held=1)
        busy = dataset.alice.post("/appointments/", asked, headers={KEY: "k-7"})
        dataset.fake_services.customers.release()
        done = running.result(timeout=10)
    assert (busy.status_code, set(busy.get_json())) == (409, {"detail"})
    assert done.status_code == 201, done.data
    again = dataset.alice.post("/appointments/", asked, headers={KEY: "k-7"})
    assert (again.status_code, again.data) == (201, done.data)


def test_many_at_once_under_one_key_book_once(dataset: Dataset) -> None:
    """Of 12 simultaneous requests each is the one 201 or a 409, and there is one row."""
    asked = dataset.booking()

    def book(_: int) -> Any:
        return Asker(dataset.app, token(user_id=dataset.alice_id)).post(
            "/appointments/", asked, headers={KEY: "k-8"}
        )

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(book, range(12)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.data for answer in answers if answer.status_code == 201}) == 1
    assert dataset.count("appointments") == 1
