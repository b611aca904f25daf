"""The customer service."""

from dataclasses import dataclass
from typing import Any

from servease_appt.clients.errors import NotFound
from servease_appt.clients.fields import full_name, other_ids, text
from servease_appt.clients.service import JsonService, path_id

_IDS = ("id", "user_id", "customer_id")


@dataclass(frozen=True, slots=True)
class Customer:
    """What this service needs of a customer.

    Attributes:
        id: the id that was asked for.
        full_name: "" where the service knows the customer but has no name for them.
        email: "" where there is none.
        aliases: further ids that the service gave for the same customer (a customer has an id of their own
            and that of their user account, and vehicles may name either as their owner).
    """

    id: str
    full_name: str
    email: str
    aliases: tuple[str, ...] = ()


class CustomerClient:
    """Asks for customers; see `JsonService` for threads, forks and connections."""

    def __init__(self, service: JsonService) -> None:
        self._service = service

    def get(self, customer_id: str, auth_token: str | None, timeout_s: float | None = None) -> Customer:
        """Return the customer whose user account has this id, or else whose own id in the customer service it is.

        Args:
            customer_id: a canonical UUID.
            auth_token: sent along as the caller's.
            timeout_s: seconds for all that this takes (it may be two calls).

        Raises:
            InvalidId: `customer_id` is not a canonical UUID; no call was made.
            UpstreamError: see `errors`.
        """
        deadline = self._service.deadline(timeout_s)
        path = f"/api/v1/customers/logical/{path_id(customer_id)}/"
        try:
            answer = self._service.get(path, auth_token, deadline)
        except NotFound:
            answer = self._service.get(f"/api/v1/customers/{customer_id}/", auth_token, deadline)
            aliases = self._aliases_by_own_id(answer, customer_id)
        else:
            aliases = other_ids(self._service.name, answer, customer_id, _IDS)
        return Customer(
            id=customer_id,
            full_name=full_name(
                self._service.name,
                answer,
                ("first_name", "last_name"),
                ("user_first_name", "user_last_name"),
            ),
            email=text(self._service.name, answer, "email", "user_email") or "",
            aliases=aliases,
        )

    def _aliases_by_own_id(self, answer: dict[str, Any], customer_id: str) -> tuple[str, ...]:
        # Asked by its own id the service answers with the account's id in `id`, and its own appears nowhere.
        if "user_id" not in answer and "customer_id" not in answer:
            return other_ids(self._service.name, {**answer, "customer_id": customer_id}, customer_id, _IDS)
        return other_ids(self._service.name, answer, customer_id, _IDS)

    def close(self) -> None:
        """Close the open connections."""
        self._service.close()
