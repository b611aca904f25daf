"""What is cached of customers, vehicles and employees, and how a page gets their names."""

from servease_appt.references.cached import (
    get_customer_cached,
    get_employee_cached,
    get_vehicle_cached,
    invalidate_customer_cache,
    invalidate_employee_cache,
    invalidate_vehicle_cache,
)

__all__ = [
    "get_customer_cached",
    "get_employee_cached",
    "get_vehicle_cached",
    "invalidate_customer_cache",
    "invalidate_employee_cache",
    "invalidate_vehicle_cache",
]
