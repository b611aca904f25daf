"""The caller, and what their role allows: the only thing that the use cases know of a token."""

from dataclasses import dataclass
from enum import StrEnum

from servease_appt.appointments.errors import Forbidden


class Role(StrEnum):
    """The roles of the platform."""

    CUSTOMER = "customer"
    EMPLOYEE = "employee"
    ADMIN = "admin"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller.

    Attributes:
        user_id: canonical UUID string; "" for the role SERVICE where the token names none.
        role: an unknown or missing role in the token is a CUSTOMER here.
    """

    user_id: str
    role: Role

    @property
    def is_staff(self) -> bool:
        """Whether the actor is an employee or an admin."""
        return self.role in {Role.EMPLOYEE, Role.ADMIN}

    @property
    def is_admin(self) -> bool:
        """Whether the actor is an admin."""
        return self.role is Role.ADMIN


def only_customer(actor: Actor) -> str | None:
    """Return the customer whose appointments the actor is limited to; None for staff, who see all.

    Raises:
        Forbidden: the actor is another service, which may use the cache endpoints only.
    """
    if actor.role is Role.SERVICE:
        raise Forbidden("A service token is for the cache endpoints only.")
    return None if actor.is_staff else actor.user_id


def require_staff(actor: Actor) -> None:
    """Raise `Forbidden` for all but employees and admins."""
    if not actor.is_staff:
        raise Forbidden("Only employees and admins may do this.")


def require_admin(actor: Actor) -> None:
    """Raise `Forbidden` for all but admins."""
    if not actor.is_admin:
        raise Forbidden("Only admins may do this.")
