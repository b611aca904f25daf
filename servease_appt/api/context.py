"""What a view needs of the application it runs in."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from flask import current_app

from servease_appt.container import EXTENSION, Container

API_NAME = "servease"
"""The blueprint that holds all others: endpoints are `servease.<resource>.<view>`."""
DOCUMENT = "servease_openapi"


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
