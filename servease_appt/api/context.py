"""What a view needs of the application it runs in."""

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
    """Return the parts that the current application was put together from."""
    return cast("Container", current_app.extensions[EXTENSION])


def now() -> datetime:
    """Return the moment at which a request is judged."""
    return datetime.now(UTC)


def api_document() -> dict[str, Any]:
    """Return the OpenAPI document of the routes that were registered."""
    make = cast("Callable[[], dict[str, Any]]", current_app.extensions[DOCUMENT])
    return make()


def api_endpoint(route: str) -> str:
    """Return the endpoint of a route, for `url_for`, in the API that answers the current request.

    An application may have registered the API under a name of its own, inside a blueprint of its own, or twice.

    Args:
        route: resource and view, such as `docs.openapi_document`.
    """
    mounted = cast("list[str]", current_app.extensions[MOUNTED])
    blueprint = (request.blueprint or "").rpartition(".")[0]
    return f"{blueprint if blueprint in mounted else mounted[0]}.{route}"
