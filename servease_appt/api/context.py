"""What a view needs of its application."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from flask import current_app, request

from servease_appt.container import EXTENSION, Container

API_NAME = "servease"
"""The blueprint that holds all others: endpoints are `servease.<resource>.<view>`."""
DOCUMENT = "servease_openapi"
MOUNTED = "servease_mounted"
"""The key of `app.extensions` under which the names are kept that the API's blueprint was registered with."""


def container() -> Container:
    """Return the parts of the current application."""
    return cast("Container", current_app.extensions[EXTENSION])


def now() -> datetime:
    """Return the moment that the rules are applied for."""
    return datetime.now(UTC)


def api_document() -> dict[str, Any]:
    """Return the OpenAPI document of the routes that were registered."""
    make = cast("Callable[[], dict[str, Any]]", current_app.extensions[DOCUMENT])
    return make()


def api_endpoint(route: str) -> str:
    """Return the endpoint of a route, for `url_for`, in the API that answers the current request.

    An application may have registered the API under another name, inside a blueprint of its own, or twice.

    Args:
        route: resource and view, such as `docs.openapi_document`.
    """
    mounted = cast("list[str]", current_app.extensions[MOUNTED])
    blueprint = (request.blueprint or "").rpartition(".")[0]
    return f"{blueprint if blueprint in mounted else mounted[0]}.{route}"
