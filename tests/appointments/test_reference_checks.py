"""What the upstreams say about a booking, and what their silence means for whom."""

import threading
from types import SimpleNamespace
from typing import cast

import pytest

from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import FieldErrors, ReferencesUnavailable
from servease_appt.appointments.references import check_references
from servease_appt.clients import (
    BadAnswer,
    Customer,
    Denied,
    NotFound,
    Unavailable,
    UpstreamError,
    Upstreams,
    Vehicle,
)
from tests.appointments.workshop import ADMIN, EMPLOYEE, customer, new_id

ME = customer()
CAR = new_id()
ACCOUNT = new_id()
KNOWN = Customer(ME.user_id, "Ada", "ada@example.org", aliases=(ACCOUNT,))
SILENT: list[UpstreamError] = [
    Unavailable("customer", "took too long"),
    Denied("customer", "said 403", 403),
    BadAnswer("customer", "answered nonsense", 200),
]


class Answers:
    """Upstreams that give prepared answers, and remember how they were asked."""

    def __init__(self, who: Customer | UpstreamError, car: Vehicle | UpstreamError) -> None:
        self.asked: list[tuple[str, str | None, float | None]] = []
        self.upstreams = cast(
            "Upstreams", SimpleNamespace(customers=self._client(who), vehicles=self._client(car))
        )

    def _client(self, answer: Customer | Vehicle | UpstreamError) -> SimpleNamespace:
        def get(wanted: str, auth_token: str | None, timeout_s: float | None) -> Customer | Vehicle:
            self.asked.append((wanted, auth_token, timeout_s))
            if isinstance(answer, UpstreamError):
                raise answer
            return answer

        return SimpleNamespace(get=get)


def car(owner: str | None) -> Vehicle:
    return Vehicle(CAR, 2020, "Opel", "Corsa", owner)


def check(
    who: Customer | UpstreamError, which: Vehicle | UpstreamError, actor: Actor = ME
) -> list[tuple[str, str]]:
    """What was left unchecked, as name and error."""
    unchecked: list[tuple[str, str]] = []
    check_references(
        Answers(who, which).upstreams,
        actor,
        ME.user_id,
        CAR,
        "token",
        timeout_s=1.5,
        on_unchecked=lambda name, error: unchecked.append((name, type(error).__name__)),
    )
    return unchecked


def test_both_are_asked_with_the_callers_token_and_the_time_there_is() -> None:
    """Each once, with the same limit."""
    answers = Answers(KNOWN, car(ME.user_id))

    check_references(
        answers.upstreams, ME, ME.user_id, CAR, "token", timeout_s=1.5, on_unchecked=lambda *_: None
    )

    assert sorted(answers.asked) == sorted([(ME.user_id, "token", 1.5), (CAR, "token", 1.5)])


def test_both_are_asked_side_by_side() -> None:
    """Together they take as long as the slower one: each waits here until the other is asked too."""
    both = threading.Barrier(2)

    def get_with(answer: Customer | Vehicle) -> SimpleNamespace:
        def get(*_: object) -> Customer | Vehicle:
            both.wait(10)
            return answer

        return SimpleNamespace(get=get)

    upstreams = SimpleNamespace(customers=get_with(KNOWN), vehicles=get_with(car(ME.user_id)))
    check_references(
        cast("Upstreams", upstreams), ME, ME.user_id, CAR, None, timeout_s=1, on_unchecked=lambda *_: None
    )


@pytest.mark.parametrize("actor", [ME, EMPLOYEE, ADMIN], ids=["customer", "employee", "admin"])
@pytest.mark.parametrize("owner", [ME.user_id, ACCOUNT], ids=["id", "other id"])
def test_a_vehicle_of_the_customers(actor: Actor, owner: str) -> None:
    """By the id that was asked for, or by another id of the same customer."""
    assert check(KNOWN, car(owner), actor) == []


@pytest.mark.parametrize("actor", [ME, EMPLOYEE], ids=["customer", "employee"])
@pytest.mark.parametrize(
    ("who", "which", "fields"),
    [
        (NotFound("customer", "404", 404), car(ME.user_id), ["customer_id"]),
        (KNOWN, NotFound("vehicle", "404", 404), ["vehicle_id"]),
        (KNOWN, car(new_id()), ["vehicle_id"]),
        (NotFound("customer", "404", 404), NotFound("vehicle", "404", 404), ["customer_id", "vehicle_id"]),
        (SILENT[0], NotFound("vehicle", "404", 404), ["vehicle_id"]),
        (NotFound("customer", "404", 404), SILENT[0], ["customer_id"]),
    ],
)
def test_what_is_known_to_be_wrong_is_refused_for_everybody(
    who: Customer | UpstreamError, which: Vehicle | UpstreamError, fields: list[str], actor: Actor
) -> None:
    """Also for staff, and also when the other upstream is silent."""
    with pytest.raises(FieldErrors) as caught:
        check(who, which, actor)
    assert list(caught.value.errors) == fields


@pytest.mark.parametrize(
    ("who", "which", "names"),
    [
        *((error, car(ME.user_id), ["customer"]) for error in SILENT),
        *((KNOWN, error, ["vehicle"]) for error in SILENT),
        (SILENT[0], SILENT[0], ["customer", "vehicle"]),
        (KNOWN, car(None), ["vehicle"]),
        (SILENT[0], car(ACCOUNT), ["customer", "vehicle"]),
    ],
)
def test_silence_stops_customers_and_not_staff(
    who: Customer | UpstreamError, which: Vehicle | UpstreamError, names: list[str]
) -> None:
    """A customer is asked to come back; staff books, and each thing that was not checked is told."""
    with pytest.raises(ReferencesUnavailable) as caught:
        check(who, which, ME)
    assert caught.value.retry_after_s > 0

    assert [name for name, _ in check(who, which, EMPLOYEE)] == names
