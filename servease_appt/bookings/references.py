"""Does the customer exist, and is the vehicle theirs? Asked of the upstreams afresh, never of a cache."""

from collections.abc import Callable

from servease_appt.bookings.actors import Actor


def check_references(
    upstreams: object,
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
        upstreams: a `servease_appt.clients.Upstreams`.
        timeout_s: for both questions together.
        on_unchecked: called with "customer" or "vehicle" and the upstream's error when staff books unchecked;
            log and count there.

    Raises:
        FieldErrors: customer_id does not exist, vehicle_id does not exist or is not the customer's.
        ReferencesUnavailable: an upstream could not answer and the actor is a customer.
    """
    raise NotImplementedError
