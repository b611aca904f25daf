"""Cached customers, vehicles and employees for code that runs in an application context."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from flask import current_app

from servease_appt.references.enrichment import Lookups
from servease_appt.references.entities import CUSTOMER, EMPLOYEE, ENTITIES, VEHICLE


def get_customer_cached(customer_id: str | UUID, auth_token: str | None = None) -> dict[str, Any]:
    """Return a customer: `{"id", "full_name", "email"}`, a dict of the caller's own.

    Args:
        customer_id: a UUID, in any spelling.
        auth_token: the bearer token for the customer service; not used where UPSTREAM_AUTH is `service`.

    Returns:
        The cached customer, or one with `Unknown` and `""` where it can't be had: unknown, denied, service down.
        A Redis that is down costs time, not the answer.

    Raises:
        ValueError: `customer_id` is not a UUID.
    """
    return _get(CUSTOMER, customer_id, auth_token)


def get_vehicle_cached(vehicle_id: str | UUID, auth_token: str | None = None) -> dict[str, Any]:
    """Return a vehicle: `{"id", "year", "make", "model"}`, with `""` each where it can't be had.

    Arguments and errors are those of `get_customer_cached`.
    """
    return _get(VEHICLE, vehicle_id, auth_token)


def get_employee_cached(employee_id: str | UUID, auth_token: str | None = None) -> dict[str, Any]:
    """Return an employee: `{"id", "full_name"}`, with `Unassigned` where they can't be had.

    Arguments and errors are those of `get_customer_cached`.
    """
    return _get(EMPLOYEE, employee_id, auth_token)


def invalidate_customer_cache(customer_id: str | UUID) -> None:
    """Drop a customer from both tiers of every worker.

    Once this has returned, no fetch that began before it can write an older value.

    Raises:
        CacheUnavailable: Redis could not take it; this worker's own L1 has dropped the customer all the same.
        ValueError: `customer_id` is not a UUID.
    """
    _lookups().invalidate(CUSTOMER, [customer_id])


def invalidate_vehicle_cache(vehicle_id: str | UUID) -> None:
    """Drop a vehicle, as `invalidate_customer_cache`."""
    _lookups().invalidate(VEHICLE, [vehicle_id])


def invalidate_employee_cache(employee_id: str | UUID) -> None:
    """Drop an employee, as `invalidate_customer_cache`."""
    _lookups().invalidate(EMPLOYEE, [employee_id])


def _get(entity: str, id_: str | UUID, auth_token: str | None) -> dict[str, Any]:
    return _lookups().get(entity, id_, auth_token) or {"id": str(id_), **ENTITIES[entity].fallback}


def _lookups() -> Lookups:
    return cast("Lookups", current_app.extensions["servease"].lookups)
