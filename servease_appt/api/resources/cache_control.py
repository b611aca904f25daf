"""The cache from outside: drop what changed upstream, and look at the counters."""

from typing import Any

import orjson
from flask import Response

from servease_appt.api.context import container
from servease_appt.api.responses import json_response, raw_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.requests import CacheInvalidation
from servease_appt.api.schemas.shapes import ref
from servease_appt.api.tokens import Caller
from servease_appt.observability.cache_report import cache_report

resource = Resource("cache", "/cache/", "Cache")


@resource.declare(
    "POST",
    "/cache/invalidate/",
    role=RequiredRole.CACHE,
    summary="Forget cached customers, vehicles or employees, in every worker.",
    body=CacheInvalidation(),
    answer=ref("Invalidated"),
)
def invalidate(caller: Caller, body: dict[str, Any]) -> Response:  # noqa: ARG001 - the role was checked
    """Drop the distinct ids given, everywhere."""
    container().lookups.invalidate(body["entity"], body["ids"])
    return json_response({"invalidated": len(body["ids"])})


@resource.declare(
    "GET",
    "/cache/stats/",
    role=RequiredRole.CACHE,
    summary="Hits, misses, fills and errors by tier and entity.",
    answer=ref("Anything"),
)
def cache_stats(caller: Caller) -> Response:  # noqa: ARG001 - the role was checked
    """Return the counters of this worker and of all."""
    parts = container()
    report = cache_report(parts.lookups, parts.metrics)
    return raw_response(orjson.dumps(report, option=orjson.OPT_NON_STR_KEYS))  # its keys are enumerations
