"""The changes of appointments, for clients that keep a copy of them."""

from typing import Any

from flask import Response, request

from servease_appt.api.context import container
from servease_appt.api.cursors import START, read_cursor, write_cursor
from servease_appt.api.paging import link
from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.changes import ChangesQuery, ChangesSchema
from servease_appt.api.tokens import Caller
from servease_appt.appointments import changes

resource = Resource("changes", "/appointments/", "Changes")
CHANGES = ChangesSchema()
_PURPOSE = "changes and when they were published"


@resource.declare(
    "GET",
    "/appointments/changes/",
    role=RequiredRole.USERS,
    summary="What has changed, deletions included, oldest first. Customers see changes of their own appointments.",
    query=ChangesQuery(),
    answer=CHANGES,
    errors=[410],
)
def list_changes(caller: Caller, query: dict[str, Any]) -> Response:
    """Return some changes, and where to continue."""
    cursor = query.get("cursor", START)
    found = changes.list_changes(
        container().database,
        caller.actor,
        after=None if cursor == START else changes.Position(*read_cursor(_PURPOSE, cursor)),
        since=query.get("updated_since"),
        limit=query["page_size"],
    )
    following = write_cursor(_PURPOSE, *found.position)
    return json_response(
        CHANGES.dump(
            {
                "next": link(request, "cursor", following, without=("updated_since",)),
                "has_more": found.has_more,
                "results": found.events,
            }
        )
    )
