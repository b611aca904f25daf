"""Who asks: the only thing the use cases know of a token."""

from dataclasses import dataclass
from enum import StrEnum


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
        """Employees and admins."""
        return self.role in {Role.EMPLOYEE, Role.ADMIN}

    @property
    def is_admin(self) -> bool:
        """Admins only."""
        return self.role is Role.ADMIN
