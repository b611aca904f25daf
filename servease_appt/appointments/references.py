"""Does the customer exist, and is the vehicle theirs? Asked of the upstreams afresh, never of a cache.

The employee is not asked for: a booking may name one, and whether they are free is for the calendar to say.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import FieldErrors, ReferencesUnavailable
from servease_appt.clients import Customer, NotFound, UpstreamError, Upstreams, Vehicle

RETRY_AFTER_S: Final = 5

AnswerT = TypeVar("AnswerT", Customer, Vehicle)


def check_references(
    upstreams: Upstreams,
    actor: Actor,
    customer_id: str,
    vehicle_id: str,
    auth_token: str | None,
    *,
    timeout_s: float,
    on_unchecked: Callable[[str, Exception], None],
) -> None:
    """Return when the booking's references are right, or could not be checked and the actor is staff.

    Args:
        timeout_s: for both questions together; they are asked side by side.
        on_unchecked: called with "customer" or "vehicle" and the upstream's error when staff books unchecked;
            log and count there.

    Raises:
        FieldErrors: customer_id does not exist, vehicle_id does not exist or is not the customer's.
        ReferencesUnavailable: an upstream could not answer (a 401 or 403 is no answer either) and the actor is a
            customer.
    """
    with ThreadPoolExecutor(max_workers=1) as second:
        asked = second.submit(_ask, upstreams.customers.get, customer_id, auth_token, timeout_s)
        vehicle = _ask(upstreams.vehicles.get, vehicle_id, auth_token, timeout_s)
        customer = asked.result()
    wrong: dict[str, list[str]] = {}
    if isinstance(customer, NotFound):
        wrong["customer_id"] = ["There is no such customer."]
    if isinstance(vehicle, NotFound):
        wrong["vehicle_id"] = ["There is no such vehicle."]
    elif _belongs(vehicle, customer_id, customer) is False:
        wrong["vehicle_id"] = ["This vehicle belongs to another customer."]
    if wrong:
        raise FieldErrors(wrong)
    for name, error in _unanswered(customer_id, customer, vehicle):
        if not actor.is_staff:
            raise ReferencesUnavailable(
                f"The {name} can't be checked at the moment; nothing was booked.", RETRY_AFTER_S
            ) from error
        on_unchecked(name, error)


def _ask(
    get: Callable[[str, str | None, float | None], AnswerT],
    wanted: str,
    auth_token: str | None,
    timeout_s: float,
) -> AnswerT | UpstreamError:
    try:
        return get(wanted, auth_token, timeout_s)
    except UpstreamError as error:
        return error


def _belongs(
    vehicle: Vehicle | UpstreamError, customer_id: str, customer: Customer | UpstreamError
) -> bool | None:
    """Whether the vehicle is the customer's; None where the answers don't tell."""
    if isinstance(vehicle, UpstreamError) or vehicle.customer_id is None:
        return None
    if vehicle.customer_id == customer_id:
        return True
    return None if isinstance(customer, UpstreamError) else vehicle.customer_id in customer.aliases


def _unanswered(
    customer_id: str, customer: Customer | UpstreamError, vehicle: Vehicle | UpstreamError
) -> list[tuple[str, UpstreamError]]:
    """What could not be checked, and why."""
    found: list[tuple[str, UpstreamError]] = []
    if isinstance(customer, UpstreamError):
        found.append(("customer", customer))
    if isinstance(vehicle, UpstreamError):
        found.append(("vehicle", vehicle))
    elif vehicle.customer_id is None:
        found.append(("vehicle", UpstreamError("vehicle", "named no owner", 200)))
    elif vehicle.customer_id != customer_id and isinstance(customer, UpstreamError):
        found.append(
            ("vehicle", UpstreamError("vehicle", "named an owner that only the customer service knows"))
        )
    return found
