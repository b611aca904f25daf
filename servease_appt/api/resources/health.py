"""Health and readiness, for load balancers and orchestrators."""

from flask import Response

from servease_appt.api.context import container
from servease_appt.api.readiness import alive, readiness
from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.operations import HealthSchema, ReadinessSchema
from servease_appt.db.errors import RETRY_AFTER_S

resource = Resource("health", "/health/", "Health")
HEALTH = HealthSchema()
READINESS = ReadinessSchema()


@resource.declare("GET", "/health/", role=RequiredRole.OPEN, summary="Is this process alive?", answer=HEALTH)
def healthy() -> Response:
    """Return that this process runs, without asking any server."""
    return json_response(HEALTH.dump(alive()))


@resource.declare(
    "GET",
    "/health/ready/",
    role=RequiredRole.OPEN,
    summary="Can requests be served? 503 when PostgreSQL does not answer, and on the way out.",
    answer=READINESS,
    errors=[503],
    error_answer=READINESS,
)
def ready() -> Response:
    """Return the state of each part."""
    found = readiness(container())
    status = 200 if found.can_serve else 503
    headers = {} if found.can_serve else {"Retry-After": str(RETRY_AFTER_S)}
    return json_response(READINESS.dump(found), status, headers)
