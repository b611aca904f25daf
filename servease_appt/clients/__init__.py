"""Clients of the services that appointments refer to: typed answers out, one tree of errors."""

from .customers import Customer, CustomerClient
from .employees import Employee, EmployeeClient
from .errors import BadAnswer, Denied, InvalidId, NotFound, Unavailable, UpstreamError
from .upstreams import Upstreams
from .vehicles import Vehicle, VehicleClient

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
