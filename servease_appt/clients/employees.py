"""The employee service."""

from dataclasses import dataclass

from servease_appt.clients.fields import full_name, other_ids
from servease_appt.clients.service import JsonService, path_id


@dataclass(frozen=True, slots=True)
class Employee:
    """What this service needs of an employee. `full_name` is "" where the service has no name for them."""

    id: str
    full_name: str


class EmployeeClient:
    """Asks for employees; see `JsonService` for threads, forks and connections."""

    def __init__(self, service: JsonService) -> None:
        self._service = service

    def get(self, employee_id: str, auth_token: str | None, timeout_s: float | None = None) -> Employee:
        """Return the employee with this id; arguments and errors as for `CustomerClient.get`."""
        deadline = self._service.deadline(timeout_s)
        answer = self._service.get(f"/api/v1/employees/{path_id(employee_id)}/basic/", auth_token, deadline)
        other_ids(self._service.name, answer, employee_id, ("id", "user_id", "employee_id"))
        return Employee(
            id=employee_id, full_name=full_name(self._service.name, answer, ("first_name", "last_name"))
        )

    def close(self) -> None:
        """Close the open connections."""
        self._service.close()
