"""What the services say about a booking, and what their silence means for whom."""

import logging
import threading
from contextlib import ExitStack
from types import SimpleNamespace
from typing import cast

import pytest

from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import FieldErrors, ReferencesUnavailable
from servease_appt.appointments.reference_checks import ReferenceChecks
from servease_appt.clients import (
    BadAnswer,
    Customer,
    Denied,
    Employee,
    NotFound,
    Unavailable,
    UpstreamError,
    Upstreams,
    Vehicle,
)
from servease_appt.references.loading import BOOKINGS_AT_ONCE, ReferenceSource
from tests.appointments.workshop import ADMIN, EMPLOYEE, customer, new_id

ME = customer()
CAR = new_id()
ACCOUNT = new_id()
EMIL = new_id()
KNOWN = Customer(ME.user_id, "Ada", "ada@example.org", aliases=(ACCOUNT,))
SILENT: list[UpstreamError] = [
    Unavailable("customer", "took too long"),
    Denied("customer", "said 403", 403),
    BadAnswer("customer", "answered nonsense", 200),
]
Answer = Customer | Vehicle | Employee | UpstreamError


class Answers:
    """Services that give prepared answers, and remember how they were asked."""

    def __init__(self, who: Answer, car: Answer, employee: Answer) -> None:
        self.asked: list[tuple[str, str | None, float | None]] = []
        self.unchecked: list[str] = []
        self.upstreams = SimpleNamespace(
            customers=self._client(who), vehicles=self._client(car), employees=self._client(employee)
        )

    def _client(self, answer: Answer) -> SimpleNamespace:
        def get(wanted: str, auth_token: str | None, timeout_s: float | None) -> Answer:
            self.asked.append((wanted, auth_token, timeout_s))
            if isinstance(answer, UpstreamError):
                raise answer
            return answer

        return SimpleNamespace(get=get)

    def checks(self) -> ReferenceChecks:
        return checks_of(self.upstreams, self.unchecked)


def checks_of(upstreams: SimpleNamespace, unchecked: list[str], slow_s: float = 60.0) -> ReferenceChecks:
    source = ReferenceSource(cast("Upstreams", upstreams), slow_s=slow_s, timeout_s=60.0)
    return ReferenceChecks(services=source, auth_token="token", timeout_s=1.5, on_unchecked=unchecked.append)


def car(owner: str | None) -> Vehicle:
    return Vehicle(CAR, 2020, "Opel", "Corsa", owner)


def check(who: Answer, which: Answer, actor: Actor = ME, employee: Answer | None = None) -> list[str]:
    """Check a booking, with an employee where there is an answer for one; return what was left unchecked."""
    answers = Answers(who, which, employee or Employee(EMIL, "Emil"))
    answers.checks().check_booking(
        actor, customer_id=ME.user_id, vehicle_id=CAR, employee_id=EMIL if employee else None
    )
    return answers.unchecked


def test_all_are_asked_with_the_callers_token_and_the_time_there_is() -> None:
    """Each once, with the same limit; the employee service only where one is named."""
    answers = Answers(KNOWN, car(ME.user_id), Employee(EMIL, "Emil"))
    checks = answers.checks()
    both = [(ME.user_id, "token", 1.5), (CAR, "token", 1.5)]

    other_ids = checks.check_booking(ME, customer_id=ME.user_id, vehicle_id=CAR, employee_id=None)
    assert other_ids == (ACCOUNT,)
    assert sorted(answers.asked) == sorted(both)

    answers.asked.clear()
    checks.check_booking(EMPLOYEE, customer_id=ME.user_id, vehicle_id=CAR, employee_id=EMIL)
    assert sorted(answers.asked) == sorted([*both, (EMIL, "token", 1.5)])
    assert checks.asked_s > 0


def test_all_are_asked_side_by_side() -> None:
    """Together they take as long as the slowest one: each waits here until the others are asked too."""
    all_three = threading.Barrier(3)

    def get_with(answer: Answer) -> SimpleNamespace:
        def get(*_: object) -> Answer:
            all_three.wait(10)
            return answer

        return SimpleNamespace(get=get)

    upstreams = SimpleNamespace(
        customers=get_with(KNOWN),
        vehicles=get_with(car(ME.user_id)),
        employees=get_with(Employee(EMIL, "Emil")),
    )
    checks_of(upstreams, []).check_booking(ADMIN, customer_id=ME.user_id, vehicle_id=CAR, employee_id=EMIL)


@pytest.mark.parametrize("actor", [ME, EMPLOYEE, ADMIN], ids=["customer", "employee", "admin"])
@pytest.mark.parametrize("owner", [ME.user_id, ACCOUNT], ids=["id", "other id"])
def test_a_vehicle_of_the_customers(actor: Actor, owner: str) -> None:
    """By the id that was asked for, or by another id of the same customer."""
    assert check(KNOWN, car(owner), actor) == []


@pytest.mark.parametrize("actor", [ME, EMPLOYEE], ids=["customer", "employee"])
@pytest.mark.parametrize(
    ("who", "which", "employee", "fields"),
    [
        (NotFound("customer", "404", 404), car(ME.user_id), None, ["customer_id"]),
        (KNOWN, NotFound("vehicle", "404", 404), None, ["vehicle_id"]),
        (KNOWN, car(new_id()), None, ["vehicle_id"]),
        (KNOWN, car(ME.user_id), NotFound("employee", "404", 404), ["assigned_employee_id"]),
        (
            NotFound("customer", "404", 404),
            NotFound("vehicle", "404", 404),
            NotFound("employee", "404", 404),
            ["customer_id", "vehicle_id", "assigned_employee_id"],
        ),
        (SILENT[0], NotFound("vehicle", "404", 404), None, ["vehicle_id"]),
        (NotFound("customer", "404", 404), SILENT[0], None, ["customer_id"]),
        (SILENT[0], SILENT[0], NotFound("employee", "404", 404), ["assigned_employee_id"]),
    ],
)
def test_what_is_known_to_be_wrong_is_refused_for_everybody(
    who: Answer, which: Answer, employee: Answer | None, fields: list[str], actor: Actor
) -> None:
    """Also for staff, and also when another service is silent."""
    with pytest.raises(FieldErrors) as caught:
        check(who, which, actor, employee)
    assert list(caught.value.errors) == fields


@pytest.mark.parametrize(
    ("who", "which", "employee", "names"),
    [
        *((error, car(ME.user_id), None, ["customer"]) for error in SILENT),
        *((KNOWN, error, None, ["vehicle"]) for error in SILENT),
        *((KNOWN, car(ME.user_id), error, ["employee"]) for error in SILENT),
        (SILENT[0], SILENT[0], SILENT[0], ["customer", "vehicle", "employee"]),
        (KNOWN, car(None), None, ["vehicle"]),
        (SILENT[0], car(ACCOUNT), None, ["customer", "vehicle"]),
    ],
)
def test_silence_stops_customers_and_not_staff(
    who: Answer,
    which: Answer,
    employee: Answer | None,
    names: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A customer is asked to come back; staff goes on, and what was not checked is logged and counted."""
    with pytest.raises(ReferencesUnavailable) as caught:
        check(who, which, ME, employee)
    assert caught.value.retry_after_s > 0

    with caplog.at_level(logging.WARNING):
        unchecked = check(who, which, EMPLOYEE, employee)
    assert sorted(unchecked) == sorted(names)
    assert len(caplog.records) == len(names)


def test_an_employee_to_assign() -> None:
    """Asked alone; unknown is the mistake of `employee_id`, silence does not stop staff."""
    known = Answers(KNOWN, car(None), Employee(EMIL, "Emil"))
    known.checks().check_employee(EMPLOYEE, EMIL)
    assert (known.asked, known.unchecked) == ([(EMIL, "token", 1.5)], [])

    with pytest.raises(FieldErrors) as caught:
        Answers(KNOWN, car(None), NotFound("employee", "404", 404)).checks().check_employee(ADMIN, EMIL)
    assert list(caught.value.errors) == ["employee_id"]

    silent = Answers(KNOWN, car(None), SILENT[0])
    silent.checks().check_employee(EMPLOYEE, EMIL)
    assert silent.unchecked == ["employee"]


def test_a_service_that_fails_is_not_asked_for_ever() -> None:
    """After five failures its breaker is open: customers get 503 and staff goes on, both at once."""
    answers = Answers(SILENT[0], car(ME.user_id), Employee(EMIL, "Emil"))
    checks = answers.checks()

    for _ in range(8):
        checks.check_booking(ADMIN, customer_id=ME.user_id, vehicle_id=CAR, employee_id=None)

    assert [wanted for wanted, *_ in answers.asked].count(ME.user_id) == 5
    with pytest.raises(ReferencesUnavailable):
        checks.check_booking(ME, customer_id=ME.user_id, vehicle_id=CAR, employee_id=None)


def test_when_all_places_are_held_up_nobody_waits() -> None:
    """Neither customers nor staff: 503 at once, without a question."""
    answers = Answers(KNOWN, car(ME.user_id), Employee(EMIL, "Emil"))
    checks = checks_of(answers.upstreams, [], slow_s=0.0)

    with ExitStack() as stack:
        for _ in range(BOOKINGS_AT_ONCE):
            stack.enter_context(checks.services.booking_place())
        for actor in (ME, ADMIN):
            with pytest.raises(ReferencesUnavailable, match="Too many bookings"):
                checks.check_booking(actor, customer_id=ME.user_id, vehicle_id=CAR, employee_id=None)
    assert answers.asked == []

    checks.check_booking(ME, customer_id=ME.user_id, vehicle_id=CAR, employee_id=None)
