"""The vehicle service."""

from dataclasses import dataclass
from typing import Any

from servease_appt.clients.errors import BadAnswer
from servease_appt.clients.fields import other_ids, text
from servease_appt.clients.service import JsonService, path_id
from servease_appt.identifiers import canonical_uuid


@dataclass(frozen=True, slots=True)
class Vehicle:
    """What this service needs of a vehicle.

    Attributes:
        id: the id that was asked for.
        year, make, model: "" for what is not known.
        customer_id: its owner, as whichever id the vehicle service keeps; None where it names none.
    """

    id: str
    year: int | str
    make: str
    model: str
    customer_id: str | None = None


class VehicleClient:
    """Asks for vehicles; see `JsonService` for threads, forks and connections."""

    def __init__(self, service: JsonService) -> None:
        self._service = service

    def get(self, vehicle_id: str, auth_token: str | None, timeout_s: float | None = None) -> Vehicle:
        """Return the vehicle with this id; arguments and errors as for `CustomerClient.get`."""
        deadline = self._service.deadline(timeout_s)
        answer = self._service.get(f"/api/v1/vehicles/{path_id(vehicle_id)}/", auth_token, deadline)
        other_ids(self._service.name, answer, vehicle_id, ("vehicle_id", "id"))
        return Vehicle(
            id=vehicle_id,
            year=self._year(answer),
            make=text(self._service.name, answer, "make") or "",
            model=text(self._service.name, answer, "model") or "",
            customer_id=_owner(answer.get("customer_id")),
        )

    def _year(self, answer: dict[str, Any]) -> int | str:
        year = answer.get("year")
        if isinstance(year, int) and not isinstance(year, bool):
            if abs(year) > 9999:
                raise BadAnswer(self._service.name, "answered with a year that is none", 200)
            return year
        return text(self._service.name, answer, "year") or ""

    def close(self) -> None:
        """Close the open connections."""
        self._service.close()


def _owner(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return canonical_uuid(value) or str(value)
