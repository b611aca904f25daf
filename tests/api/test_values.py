"""A value that can't be stored is its field's mistake, whichever route it comes by, and nothing is written."""

from typing import Any

import pytest

from servease_appt.scheduling.statuses import Status
from tests.support.dataset import Dataset

NO_TEXTS: list[object] = [5, None, ["x"], "a\0b", "x" * 5001]
NO_NUMBERS: list[object] = [True, 60.0, "sixty", None, 2**63, -1]
NO_AMOUNTS: list[object] = ["NaN", "Infinity", "-0.01", "0.001", "1e400", "1e-400", "100000000.00", 1e9, True]


def cases(**values: list[object]) -> list[tuple[str, object]]:
    return [(field, value) for field, wrong in values.items() for value in wrong]


CREATED = cases(
    appointment_type=["car wash", None, 5],
    duration_minutes=[*NO_NUMBERS, 0, 10_081],
    service_description=NO_TEXTS,
    customer_notes=NO_TEXTS,
    internal_notes=NO_TEXTS,
    estimated_cost=NO_AMOUNTS,
    scheduled_date=["9999-12-31", "0000-01-01", None, 20300101],
    scheduled_time=["09:00:00.1", "09:00+02:00", "24:00", None],
)
PATCHED = cases(
    appointment_type=["car wash", None],
    duration_minutes=[*NO_NUMBERS, 0, 10_081],
    service_description=NO_TEXTS,
    customer_notes=NO_TEXTS,
    internal_notes=NO_TEXTS,
    estimated_cost=NO_AMOUNTS,
    duration_seconds=[-1, 2**31, True, "soon"],
    status=["pending", "gone", None, ["confirmed"]],
)
SLOTS = cases(
    date=["9999-12-31", None],
    start_time=["09:00:00.1", None],
    end_time=["08:00", "09:00", None],
    is_available=[1, None, "yes"],
    max_concurrent_appointments=[-1, 2**31, None, True],
)


@pytest.mark.parametrize(("field", "value"), CREATED)
def test_on_booking(dataset: Dataset, field: str, value: object) -> None:
    """Named before anything is asked or written."""
    answer = dataset.erin.post("/appointments/", dataset.booking(**{field: value}))

    assert (answer.status_code, list(answer.get_json())) == (400, [field]), answer.data
    assert dataset.count("appointments") == 0


@pytest.mark.parametrize(("field", "value"), PATCHED)
def test_on_editing(dataset: Dataset, field: str, value: object) -> None:
    """Whatever else came with it is not written either."""
    number = dataset.appointment()
    before = dataset.stored(number)

    answer = dataset.erin.patch(f"/appointments/{number}/", {"customer_notes": "with it", field: value})

    assert (answer.status_code, list(answer.get_json())) == (400, [field]), answer.data
    assert dataset.stored(number) == before


def test_half_a_character_is_not_json(dataset: Dataset) -> None:
    """JSON can spell it, UTF-8 can't: the body as a whole is refused."""
    body = b'{"customer_notes": "half of \\ud83d"}'
    answer = dataset.erin.ask(
        "PATCH", f"/appointments/{dataset.appointment()}/", data=body, content_type="application/json"
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("action", ["confirm", "start", "complete", "cancel", "no_show", "reschedule"])
@pytest.mark.parametrize("reason", [5, "\0", "x" * 5001])
def test_a_reason(dataset: Dataset, action: str, reason: object) -> None:
    """Is refused before the status is looked at."""
    number = dataset.appointment()
    moved = {"new_date": "2030-05-07", "new_time": "09:00"} if action == "reschedule" else {}

    answer = dataset.erin.post(f"/appointments/{number}/{action}/", {**moved, "reason": reason})

    assert (answer.status_code, list(answer.get_json())) == (400, ["reason"]), answer.data
    assert dataset.stored(number)["status"] == Status.PENDING
    assert dataset.count("appointment_history") == 0


@pytest.mark.parametrize(("field", "value"), SLOTS)
def test_a_slot(dataset: Dataset, field: str, value: object) -> None:
    """On creation and on change."""
    right: dict[str, Any] = {"date": "2030-05-07", "start_time": "09:00", "end_time": "10:00"}

    answer = dataset.erin.post("/time-slots/", right | {field: value})
    assert (answer.status_code, list(answer.get_json())) == (400, [field]), answer.data
    assert dataset.count("time_slots") == 0

    slot = dataset.erin.post("/time-slots/", right).get_json()
    answer = dataset.erin.patch(f"/time-slots/{slot['id']}/", {"is_available": False, field: value})
    assert (answer.status_code, list(answer.get_json())) == (400, [field]), answer.data
    assert dataset.erin.get(f"/time-slots/{slot['id']}/").get_json() == slot


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=gone", "status"),
        ("status=%00", "status"),
        ("appointment_type=wash", "appointment_type"),
        ("start_date=2030-05-07&end_date=2030-05-06", "end_date"),
        ("customer_id=x", "customer_id"),
    ],
)
def test_a_filter_that_can_match_nothing(dataset: Dataset, query: str, field: str) -> None:
    """Is the caller's mistake, and the message says what is allowed."""
    answer = dataset.erin.get(f"/appointments/?{query}")
    assert (answer.status_code, list(answer.get_json())) == (400, [field]), answer.data


def test_slots_of_a_range_that_runs_backwards(dataset: Dataset) -> None:
    """Is the mistake of its end."""
    answer = dataset.erin.get("/time-slots/?start_date=2030-05-07&end_date=2030-05-06")
    assert (answer.status_code, list(answer.get_json())) == (400, ["end_date"])
