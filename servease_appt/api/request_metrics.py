"""How long each request took, told to the metrics, and what the access log may know of it."""

from functools import cache
from time import perf_counter

from flask import Response, request
from flask.sansio.scaffold import Scaffold

from servease_appt.api.fallbacks import BLUEPRINT as FALLBACK
from servease_appt.api.request_ids import request_id
from servease_appt.observability.access_log import ACCESS, AccessLogEntry
from servease_appt.observability.metrics import Metrics

UNMATCHED = "unmatched"
"""The label of all requests that no route was made for: paths are the caller's words and have no end."""
_STARTED = "servease.started_s"


def install(scope: Scaffold, metrics: Metrics) -> None:
    """Measure every request within `scope`, an application or a blueprint."""

    def begin() -> None:
        request.environ[_STARTED] = perf_counter()

    def end(response: Response) -> Response:
        environ = request.environ
        route = route_name(request.endpoint)
        metrics.request(route, request.method, response.status_code, perf_counter() - environ[_STARTED])
        environ[ACCESS] = AccessLogEntry(request_id(), route, response.headers.get("X-Cache"))
        return response

    scope.before_request(begin)
    scope.after_request(end)


@cache
def route_name(endpoint: str | None) -> str:
    """The name of a route of ours, the same wherever it is mounted; cached, since there are only so many."""
    blueprint, _, name = (endpoint or "").rpartition(".")
    return name if name and blueprint.rpartition(".")[2] != FALLBACK else UNMATCHED
