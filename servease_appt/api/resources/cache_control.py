"""The cache endpoints: invalidate entries, and read the counters."""

from typing import Any

from flask import Response

from servease_appt.api.context import container
from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.operations import CacheInvalidation, CacheStatsSchema, InvalidatedSchema
from servease_appt.api.tokens import Caller
from servease_appt.observability.cache_report import cache_report

resource = Resource("cache", "/cache/", "Cache")
INVALIDATED = InvalidatedSchema()
STATS = CacheStatsSchema()


@resource.declare(
    "POST",
    "/cache/invalidate/",
    role=RequiredRole.CACHE,
    summary="Invalidate cached customers, vehicles or employees in every worker.",
    body=CacheInvalidation(),
    answer=INVALIDATED,
)
def invalidate_cache(caller: Caller, body: dict[str, Any]) -> Response:  # noqa: ARG001 - the role was checked
    """Invalidate the given ids in both tiers of every worker."""
    container().lookups.invalidate(body["entity"], body["ids"])
    return json_response(INVALIDATED.dump({"invalidated": len(body["ids"])}))


@resource.declare(
    "GET",
    "/cache/stats/",
    role=RequiredRole.CACHE,
    summary="Hits, misses, fills and errors by tier and entity.",
    answer=STATS,
)
def cache_stats(caller: Caller) -> Response:  # noqa: ARG001 - the role was checked
    """Return the counters of this worker and of all workers."""
    parts = container()
    return json_response(STATS.dump(cache_report(parts.lookups, parts.metrics)))
