"""The metrics of all workers, as Prometheus reads them."""

from flask import Response

from servease_appt.api.context import services
from servease_appt.api.errors import detail_problem
from servease_appt.api.routing import Resource, Who
from servease_appt.observability.metrics import CONTENT_TYPE

resource = Resource("metrics", "/metrics/", "Metrics")


@resource.declare("GET", "/metrics", who=Who.OPEN, summary="Metrics as Prometheus text.", problems=[404])
def metrics() -> Response:
    """Return the metrics; 404 where the operator has turned them off."""
    if not services().settings.metrics_enabled:
        raise detail_problem(404)
    return Response(services().metrics.text(), content_type=CONTENT_TYPE)
