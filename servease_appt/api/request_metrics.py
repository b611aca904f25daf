"""Pass the duration of each request to the metrics, and the loggable facts about it to the access log."""

from functools import cache

from flask import Response, request
from flask.sansio.scaffold import Scaffold

from servease_appt.api.context import container
from servease_appt.api.fallbacks import BLUEPRINT as FALLBACK
from servease_appt.api.request_state import begin_request, request_began, request_id, seconds_so_far
from servease_appt.observability.access_log import ACCESS, AccessLogEntry

UNMATCHED = "unmatched"
"""The label of all requests that no route was made for: paths are the caller's words and have no end."""


def install(scope: Scaffold) -> None:
    """Measure every request that reaches `scope`, an application or a blueprint.

    A request that a hook of the host has answered is not counted: it did not reach the API.
    """
    scope.before_request(begin_request)
    scope.after_request(_count)


def _count(response: Response) -> Response:
    if request_began():
        route = route_name(request.endpoint)
        container().metrics.request(route, request.method, response.status_code, seconds_so_far())
        request.environ[ACCESS] = AccessLogEntry(request_id(), route, response.headers.get("X-Cache"))
    return response


@cache
def route_name(endpoint: str | None) -> str:
    """Return the name of a route, which does not depend on where it is mounted. Cached: there are few routes."""
    blueprint, _, name = (endpoint or "").rpartition(".")
    return name if name and blueprint.rpartition(".")[2] != FALLBACK else UNMATCHED
