"""The metrics of all workers, as Prometheus reads them."""

from hmac import compare_digest

from flask import Response, request

from servease_appt.api.context import container
from servease_appt.api.errors import detail_error
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.observability.metrics import CONTENT_TYPE

resource = Resource("metrics", "/metrics/", "Metrics")


@resource.declare(
    "GET",
    "/metrics",
    role=RequiredRole.OPEN,
    summary="Metrics as Prometheus text. 401 where the operator has set a token for them.",
    media_type="text/plain",
    errors=[404],
)
def metrics() -> Response:
    """Return the metrics; 404 where the operator has turned them off, 401 without the operator's token."""
    settings = container().settings
    if not settings.metrics_enabled:
        raise detail_error(404)
    if settings.metrics_token is not None and not _bears(settings.metrics_token):
        raise detail_error(401, "The metrics need a token of their own.", WWW_Authenticate="Bearer")
    return Response(container().metrics.text(), content_type=CONTENT_TYPE)


def _bears(token: str) -> bool:
    """Return whether the request has `token`. Takes as long for a wrong token as for the right one."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return compare_digest(given.strip().encode(), token.encode()) and scheme.lower() == "bearer"
