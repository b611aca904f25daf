"""The metrics of all workers, as Prometheus reads them."""

from flask import Response

from servease_appt.api.context import container
from servease_appt.api.errors import detail_error
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.observability.metrics import CONTENT_TYPE

resource = Resource("metrics", "/metrics/", "Metrics")


@resource.declare(
    "GET",
    "/metrics",
    role=RequiredRole.OPEN,
    summary="Metrics as Prometheus text.",
    media_type="text/plain",
    errors=[404],
)
def metrics() -> Response:
    """Return the metrics; 404 where the operator has turned them off."""
    if not container().settings.metrics_enabled:
        raise detail_error(404)
    return Response(container().metrics.text(), content_type=CONTENT_TYPE)
