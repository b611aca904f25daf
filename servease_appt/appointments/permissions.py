"""Who may see and do what; the rules that need nothing but the actor."""

from servease_appt.appointments.actors import Actor, Role
from servease_appt.appointments.errors import Forbidden


def only_customer(actor: Actor) -> str | None:
    """Whose appointments the actor is limited to: a customer's own, None for staff who see all.

    Raises:
        Forbidden: another service, which has no business with appointments.
    """
    if actor.role is Role.SERVICE:
        raise Forbidden("A service token is for the cache endpoints only.")
    return None if actor.is_staff else actor.user_id


def require_staff(actor: Actor) -> None:
    """Raises `Forbidden` for all but employees and admins."""
    if not actor.is_staff:
        raise Forbidden("Only employees and admins may do this.")


def require_admin(actor: Actor) -> None:
    """Raises `Forbidden` for all but admins."""
    if not actor.is_admin:
        raise Forbidden("Only admins may do this.")
