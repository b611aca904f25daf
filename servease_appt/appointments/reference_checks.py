"""Check what a booking refers to: the services are asked afresh, never the cache.

The customer has to exist, the vehicle has to be theirs, and an employee who is named has to exist.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Protocol, TypeVar

from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import FieldErrors, ReferencesUnavailable
from servease_appt.clients import Customer, NotFound, UpstreamError, Upstreams, Vehicle
from servease_appt.clients.bulkhead import BulkheadFull

RETRY_AFTER_S: Final = 5
RETRY_AFTER_BULKHEAD_S: Final = 1

_log = logging.getLogger(__name__)
AnswerT = TypeVar("AnswerT")


class Services(Protocol):
    """The services that own customers, vehicles and employees, each behind its circuit breaker."""

    def ask(self, entity: str, call: Callable[[Upstreams], AnswerT]) -> AnswerT:
        """Return what `call` returns. Raise UpstreamError where it does, or where the breaker is open."""

    def booking_place(self) -> AbstractContextManager[None]:
        """Take one of the places that bookings have. Raise BulkheadFull at once where all are held up."""


@dataclass(slots=True, kw_only=True)
class ReferenceChecks:
    """The checks for one request of one caller. To be used by one thread.

    Attributes:
        auth_token: the caller's bearer token, sent along.
        timeout_s: for all questions of one booking together; they are asked side by side.
        on_unchecked: called with "customer", "vehicle" or "employee" where staff goes on without an answer.
        asked_s: seconds spent on asking so far.
    """

    services: Services
    auth_token: str | None
    timeout_s: float
    on_unchecked: Callable[[str], None]
    asked_s: float = 0.0

    def check_booking(
        self, actor: Actor, *, customer_id: str, vehicle_id: str, employee_id: str | None
    ) -> Sequence[str]:
        """Return if the references are right, or could not be checked and the actor is staff.

        Returns:
            Other ids of the same customer, as far as the customer service names them.

        Raises:
            FieldErrors: customer_id, vehicle_id or assigned_employee_id does not exist, or the vehicle is not the
                customer's.
            ReferencesUnavailable: a service could not answer (401 and 403 are no answer) and the actor is a
                customer, or too many bookings are waiting for a service.
        """
        token, timeout_s = self.auth_token, self.timeout_s
        questions: dict[str, Callable[[Upstreams], Any]] = {
            "customer": lambda upstreams: upstreams.customers.get(customer_id, token, timeout_s),
            "vehicle": lambda upstreams: upstreams.vehicles.get(vehicle_id, token, timeout_s),
        }
        if employee_id is not None:
            questions["employee"] = lambda upstreams: upstreams.employees.get(employee_id, token, timeout_s)
        answers = self._ask(questions)
        customer, vehicle = answers["customer"], answers["vehicle"]
        wrong: dict[str, list[str]] = {}
        if isinstance(customer, NotFound):
            wrong["customer_id"] = ["There is no such customer."]
        if isinstance(vehicle, NotFound):
            wrong["vehicle_id"] = ["There is no such vehicle."]
        elif _belongs(vehicle, customer_id, customer) is False:
            wrong["vehicle_id"] = ["This vehicle belongs to another customer."]
        if isinstance(answers.get("employee"), NotFound):
            wrong["assigned_employee_id"] = ["There is no such employee."]
        if wrong:
            raise FieldErrors(wrong)
        self._go_on(actor, _unanswered(customer_id, answers))
        return customer.aliases if isinstance(customer, Customer) else ()

    def check_employee(self, actor: Actor, employee_id: str) -> None:
        """Return if there is such an employee, or if it could not be checked and the actor is staff.

        Raises as `check_booking`, with `employee_id` as the field.
        """
        answers = self._ask(
            {
                "employee": lambda upstreams: upstreams.employees.get(
                    employee_id, self.auth_token, self.timeout_s
                )
            }
        )
        employee = answers["employee"]
        if isinstance(employee, NotFound):
            raise FieldErrors({"employee_id": ["There is no such employee."]})
        if isinstance(employee, UpstreamError):
            self._go_on(actor, {"employee": employee})

    def _ask(self, questions: Mapping[str, Callable[[Upstreams], Any]]) -> dict[str, Any]:
        """Ask side by side; an answer is what a client returns, or its UpstreamError."""
        first, *others = questions
        started_s = perf_counter()
        try:
            with self.services.booking_place(), ThreadPoolExecutor(max(1, len(others))) as pool:
                asked = {entity: pool.submit(self._answer, entity, questions[entity]) for entity in others}
                answer = self._answer(first, questions[first])
                return {first: answer} | {entity: future.result() for entity, future in asked.items()}
        except BulkheadFull as error:
            raise ReferencesUnavailable(
                "Too many bookings wait for another service; nothing was booked.", RETRY_AFTER_BULKHEAD_S
            ) from error
        finally:
            self.asked_s += perf_counter() - started_s

    def _answer(self, entity: str, question: Callable[[Upstreams], AnswerT]) -> AnswerT | UpstreamError:
        try:
            return self.services.ask(entity, question)
        except UpstreamError as error:
            return error

    def _go_on(self, actor: Actor, unanswered: Mapping[str, UpstreamError]) -> None:
        """Let staff go on without answers; each is logged and counted."""
        for entity, error in unanswered.items():
            if not actor.is_staff:
                raise ReferencesUnavailable(
                    f"The {entity} can't be checked at the moment; nothing was booked.", RETRY_AFTER_S
                ) from error
            _log.warning("Went on without a check: the %s service gave no answer (%s)", entity, error)
            self.on_unchecked(entity)


def _belongs(
    vehicle: Vehicle | UpstreamError, customer_id: str, customer: Customer | UpstreamError
) -> bool | None:
    """Return whether the vehicle is the customer's; None where the answers don't tell."""
    if isinstance(vehicle, UpstreamError) or vehicle.customer_id is None:
        return None
    if vehicle.customer_id == customer_id:
        return True
    return None if isinstance(customer, UpstreamError) else vehicle.customer_id in customer.aliases


def _unanswered(customer_id: str, answers: Mapping[str, Any]) -> dict[str, UpstreamError]:
    """Return what could not be checked, and why."""
    found = {entity: answer for entity, answer in answers.items() if isinstance(answer, UpstreamError)}
    customer, vehicle = answers["customer"], answers["vehicle"]
    if isinstance(vehicle, Vehicle) and _belongs(vehicle, customer_id, customer) is None:
        reason = (
            "named no owner"
            if vehicle.customer_id is None
            else "named an owner that only the customer service knows"
        )
        found["vehicle"] = UpstreamError("vehicle", reason, 200)
    return found
