"""The clients of the three services that an appointment refers to, together."""

from dataclasses import dataclass
from typing import Self

from servease_appt.clients.customers import CustomerClient
from servease_appt.clients.employees import EmployeeClient
from servease_appt.clients.service import JsonService
from servease_appt.clients.vehicles import VehicleClient


@dataclass(frozen=True, slots=True)
class Upstreams:
    """One client for each service."""

    customers: CustomerClient
    employees: EmployeeClient
    vehicles: VehicleClient

    @classmethod
    def from_urls(
        cls,
        *,
        customer_service_url: str,
        employee_service_url: str,
        vehicle_service_url: str,
        timeout_s: float,
        pool_size: int,
    ) -> Self:
        """Return clients for the services at these base URLs.

        Args:
            timeout_s: seconds that a call may take where it names no other limit.
            pool_size: connections kept open to each service; as many as threads call it at once.
        """

        def service(name: str, url: str) -> JsonService:
            return JsonService(name, url, timeout_s=timeout_s, pool_size=pool_size)

        return cls(
            customers=CustomerClient(service("customer", customer_service_url)),
            employees=EmployeeClient(service("employee", employee_service_url)),
            vehicles=VehicleClient(service("vehicle", vehicle_service_url)),
        )

    def close(self) -> None:
        """Close all open connections."""
        for client in (self.customers, self.employees, self.vehicles):
            client.close()
