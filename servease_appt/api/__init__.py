"""The HTTP API: one blueprint for each resource, all nested in one that an application registers."""

from functools import cache
from typing import Any

from flask import Blueprint, Flask
from flask.sansio.app import App
from flask.sansio.scaffold import Scaffold

from servease_appt.api import errors, headers, request_metrics
from servease_appt.api.context import API_NAME, DOCUMENT, MOUNTED
from servease_appt.api.fallbacks import fallback_blueprint
from servease_appt.api.openapi import build_document
from servease_appt.api.resources import (
    actions,
    appointments,
    booking,
    cache_control,
    changes,
    docs,
    health,
    history,
    metrics,
    reports,
    time_slots,
)

RESOURCES = (
    appointments.resource,
    booking.resource,
    actions.resource,
    reports.resource,
    changes.resource,
    history.of_appointment,
    history.resource,
    time_slots.resource,
    cache_control.resource,
    health.resource,
    metrics.resource,
    docs.resource,
)
FALLBACK = fallback_blueprint(RESOURCES)

AT_THE_ROOT_TOO = (docs.resource, health.resource, metrics.resource)
"""Where load balancers, Prometheus and people look first."""


class ApiBlueprint(Blueprint):
    """The API as a blueprint; `app.extensions["servease"]` has to hold a `Container` before the first request.

    An application registers it as any other. Endpoints are `servease.<resource>.<view>`; where that name is taken
    by an earlier registration of the API, the next is `servease_2`.
    """

    def __init__(self) -> None:
        super().__init__(API_NAME, __name__)
        for nested in (*RESOURCES, FALLBACK):
            self.register_blueprint(nested)

    def register(self, app: App, options: dict[str, Any]) -> None:
        """Register all resources. Raises ValueError, before anything is changed, where the API can't be."""
        check_place(options.get("url_prefix"), options.get("subdomain"))
        mounted: list[str] = app.extensions.setdefault(MOUNTED, [])
        parent = f"{options['name_prefix']}." if options.get("name_prefix") else ""
        if "name" not in options and f"{parent}{API_NAME}" in mounted:
            options["name"] = f"{API_NAME}_{len(mounted) + 1}"
        super().register(app, options)
        mounted.append(f"{parent}{options.get('name', API_NAME)}")
        app.extensions.setdefault(DOCUMENT, _document)


def check_place(url_prefix: str | None, subdomain: str | None = None) -> None:
    """Raise ValueError where the API can't be registered.

    A variable part is refused: the views take ids from the path and nothing else, and the data behind them is the
    same for each of its values.
    """
    if url_prefix and not url_prefix.startswith("/"):
        raise ValueError(f"url_prefix={url_prefix!r} can't be used: it begins with a slash, or is empty")
    for name, place in (("url_prefix", url_prefix), ("subdomain", subdomain)):
        if place and "<" in place:
            raise ValueError(f"{name}={place!r} can't be used: the API takes no variable part")


def install_hooks(scope: Scaffold) -> None:
    """Give every answer within `scope`, an application or a blueprint, our errors, headers and metrics."""
    errors.install(scope)
    headers.install(scope)
    request_metrics.install(scope)


def register_at_root(app: Flask) -> None:
    """Offer document, page, health and metrics at the root of our own application as well."""
    for resource in AT_THE_ROOT_TOO:
        app.register_blueprint(resource, name=f"{API_NAME}_root_{resource.name}", url_prefix="/")


@cache
def _document() -> dict[str, Any]:
    return build_document(RESOURCES)
