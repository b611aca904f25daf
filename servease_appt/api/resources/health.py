"""What load balancers look at: health and readiness."""

from flask import Response

from servease_appt.api.context import container
from servease_appt.api.readiness import alive, readiness
from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.shapes import ref
from servease_appt.db.errors import RETRY_AFTER_S

resource = Resource("health", "/health/", "Health")


@resource.declare(
    "GET", "/health/", role=RequiredRole.OPEN, summary="Is this process alive?", answer=ref("Health")
)
def healthy() -> Response:
    """Answer without asking any server."""
    return json_response(alive())


@resource.declare(
    "GET",
    "/health/ready/",
    role=RequiredRole.OPEN,
    summary="Can requests be served? 503 when PostgreSQL does not answer, and on the way out.",
    answer=ref("Readiness"),
    errors=[503],
)
def ready() -> Response:
    """Ask each part for its state."""
    found = readiness(container())
    status = 200 if found.can_serve else 503
    headers = {} if found.can_serve else {"Retry-After": str(RETRY_AFTER_S)}
    return json_response({"status": found.status, "checks": found.checks}, status, headers)
