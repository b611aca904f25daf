"""The HTTP API: one blueprint for each resource, put into an application of its own or into a host's."""

from functools import cache, partial

from flask import Blueprint, Flask
from flask.sansio.scaffold import Scaffold

from servease_appt.api import errors as errors
from servease_appt.api import headers
from servease_appt.api import request_metrics as measuring
from servease_appt.api.context import API_NAME, DOCUMENT
from servease_appt.api.fallbacks import fallback_blueprint
from servease_appt.api.openapi import build_document
from servease_appt.api.resources import (
    actions,
    appointments,
    booking,
    cache_control,
    docs,
    health,
    history,
    metrics,
    reports,
    time_slots,
)
from servease_appt.container import EXTENSION, Container

RESOURCES = (
    appointments.resource,
    booking.resource,
    actions.resource,
    reports.resource,
    history.of_appointment,
    history.resource,
    time_slots.resource,
    cache_control.resource,
    health.resource,
    metrics.resource,
    docs.resource,
)

AT_THE_ROOT_TOO = (docs.resource, health.resource, metrics.resource)
"""Where load balancers, Prometheus and people look first."""


def register(app: Flask, container: Container, url_prefix: str = "/api/v1", *, standalone: bool) -> None:
    """Put the API under `url_prefix` of `app`.

    Args:
        standalone: the application is ours: unknown addresses anywhere get our JSON errors, and document,
            page, health and metrics are at the root too. Otherwise nothing outside `url_prefix` changes, and
            inside it only our own trees of paths.
    """
    app.extensions[EXTENSION] = container
    app.extensions[DOCUMENT] = cache(partial(build_document, RESOURCES))
    api = Blueprint(API_NAME, __name__)
    for resource in RESOURCES:
        api.register_blueprint(resource)
    api.register_blueprint(fallback_blueprint(RESOURCES))
    scope: Scaffold = app if standalone else api
    errors.install(scope)
    headers.install(scope, container.settings.cors_allowed_origins)
    measuring.install(scope, container.metrics)
    app.register_blueprint(api, url_prefix=url_prefix)
    if standalone:
        for resource in AT_THE_ROOT_TOO:
            app.register_blueprint(resource, name=f"{API_NAME}_root_{resource.name}", url_prefix="/")
