"""Clients of the services that appointments refer to: typed answers, one tree of errors."""

from servease_appt.clients.customers import Customer, CustomerClient
from servease_appt.clients.employees import Employee, EmployeeClient
from servease_appt.clients.errors import BadAnswer, Denied, InvalidId, NotFound, Unavailable, UpstreamError
from servease_appt.clients.upstreams import Upstreams
from servease_appt.clients.vehicles import Vehicle, VehicleClient

__all__ = [
    "BadAnswer",
    "Customer",
    "CustomerClient",
    "Denied",
    "Employee",
    "EmployeeClient",
    "InvalidId",
    "NotFound",
    "Unavailable",
    "UpstreamError",
    "Upstreams",
    "Vehicle",
    "VehicleClient",
]
