"""The cache's dashboard at `/ops/cache/`: a page of local files, and its data for admins.

The blueprint keeps nothing of an application; `dashboard_views` makes what it shows of one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple, cast

from flask import Response, current_app, url_for
from flask.typing import ResponseReturnValue
from marshmallow import EXCLUDE, Schema, fields, validate

from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.fields import Choice, Id
from servease_appt.api.tokens import ACCESS, Caller
from servease_appt.container import Container
from servease_appt.dashboard.checkup import Checkup
from servease_appt.dashboard.links import PATH, TOKEN_TYPE
from servease_appt.dashboard.sessions import Sessions
from servease_appt.dashboard.views import Entries, Overview
from servease_appt.inspection.key_pages import CURSOR, FIRST
from servease_appt.rate_limits import Cost
from servease_appt.references.entities import ENTITIES

SCRIPTS = (
    "token",
    "page",
    "server",
    "html",
    "overview",
    "entities",
    "keys",
    "doctor",
    "events",
    "figures",
    "lines",
)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


class Since(Schema):
    """The time after which the page has no samples or events yet."""

    class Meta:
        unknown = EXCLUDE

    since = fields.Float(load_default=0.0)


class Named(Schema):
    """One entity."""

    class Meta:
        unknown = EXCLUDE

    entity = Choice(list(ENTITIES), required=True)
    id = Id(required=True)


class Code(Schema):
    """The code of a link."""

    class Meta:
        unknown = EXCLUDE

    code = fields.String(required=True)


class Page(Schema):
    """A page of keys."""

    class Meta:
        unknown = EXCLUDE

    entity = Choice(list(ENTITIES), load_default=None, allow_none=True)
    cursor = fields.String(load_default=FIRST, validate=validate.Regexp(CURSOR))


DASHBOARD = "servease_dashboard"
"""The key of `app.extensions` under which an application's `DashboardViews` are."""

Guard = Callable[[], ResponseReturnValue | None]
"""What a host is asked before each request to the dashboard: None lets it in, anything else is the answer."""


class DashboardViews(NamedTuple):
    """What the dashboard of one application shows."""

    overview: Overview
    entries: Entries
    sessions: Sessions
    checkup: Checkup
    guard: Guard | None


def dashboard_views(container: Container, guard: Guard | None = None) -> DashboardViews:
    """Return what the blueprint needs of the application that `container` belongs to.

    Args:
        guard: asked before each request; the token of an admin is needed all the same.
    """
    return DashboardViews(
        Overview(container), Entries(container), Sessions(container), Checkup(container), guard
    )


def _views() -> DashboardViews:
    return cast("DashboardViews", current_app.extensions[DASHBOARD])


def _ask_guard() -> ResponseReturnValue | None:
    guard = _views().guard
    return None if guard is None else guard()


def dashboard() -> Resource:
    """Return a blueprint; the application that registers it has its `DashboardViews` under `DASHBOARD`."""
    resource = Resource("dashboard", PATH, "Dashboard", token_types=(ACCESS, TOKEN_TYPE))
    resource.before_request(_ask_guard)
    _declare_page(resource)
    _declare_data(resource)
    _declare_actions(resource)
    return resource


def _declare_page(resource: Resource) -> None:
    @resource.declare("GET", PATH, role=RequiredRole.OPEN, summary="The page.")
    def dashboard_page() -> Response:
        """Return the page; without a token it shows nothing."""
        base = escape(url_for(".dashboard_page").rstrip("/"))
        page = _file("page.html").decode().replace("{{base}}", base)
        page = page.replace("{{entities}}", " ".join(ENTITIES))
        return Response(page, mimetype="text/html", headers=_HEADERS)

    @resource.declare("GET", f"{PATH}page.css", role=RequiredRole.OPEN, summary="The page's style.")
    def dashboard_style() -> Response:
        """Return the style sheet."""
        return Response(_file("page.css"), mimetype="text/css")

    for name in SCRIPTS:
        _serve_script(resource, name)

    @resource.declare(
        "POST",
        f"{PATH}session",
        role=RequiredRole.OPEN,
        summary="Exchange a link's code for a token.",
        body=Code(),
    )
    def dashboard_session(body: dict[str, Any]) -> Response:
        """Return the token; 401 for a code that is not valid."""
        return json_response({"token": _views().sessions.token_for(body["code"])})


def _declare_data(resource: Resource) -> None:
    @resource.declare(
        "GET", f"{PATH}data", role=RequiredRole.ADMIN, summary="The data that the page shows.", query=Since()
    )
    def dashboard_data(caller: Caller, query: dict[str, Any]) -> Response:  # noqa: ARG001 - the role was checked
        """Return totals, states, workers and the metric history."""
        return json_response(_views().overview.as_json(since_s=query["since"]))

    @resource.declare(
        "POST",
        f"{PATH}explain",
        role=RequiredRole.ADMIN,
        summary="What each tier holds of an entity.",
        body=Named(),
    )
    def dashboard_explain(caller: Caller, body: dict[str, Any]) -> Response:  # noqa: ARG001
        """Return what Redis and each worker hold of it."""
        return json_response(_views().entries.explain(body["entity"], body["id"]))

    @resource.declare(
        "GET", f"{PATH}events", role=RequiredRole.ADMIN, summary="The workers' last events.", query=Since()
    )
    def dashboard_events(caller: Caller, query: dict[str, Any]) -> Response:  # noqa: ARG001
        """Return the events after a time."""
        return json_response({"events": _views().overview.events_since(query["since"])})

    @resource.declare(
        "GET", f"{PATH}keys", role=RequiredRole.ADMIN, summary="Keys in Redis, page by page.", query=Page()
    )
    def dashboard_keys(caller: Caller, query: dict[str, Any]) -> Response:  # noqa: ARG001
        """Return a page of keys with their lifetimes."""
        return json_response(_views().entries.page(query["entity"], query["cursor"]))


def _declare_actions(resource: Resource) -> None:
    @resource.declare(
        "POST", f"{PATH}invalidate", role=RequiredRole.ADMIN, summary="Invalidate an entity.", body=Named()
    )
    def dashboard_invalidate(caller: Caller, body: dict[str, Any]) -> Response:  # noqa: ARG001
        """Invalidate it and return how long each worker took to handle that."""
        return json_response(_views().entries.invalidate(body["entity"], body["id"]))

    @resource.declare(
        "POST", f"{PATH}doctor", role=RequiredRole.ADMIN, summary="Run the doctor.", cost=Cost.COSTLY
    )
    def dashboard_doctor(caller: Caller) -> Response:  # noqa: ARG001
        """Return the findings."""
        return json_response(_views().checkup.as_json())


def _serve_script(resource: Resource, name: str) -> None:
    def script() -> Response:
        return Response(_file(f"{name}.js"), mimetype="text/javascript")

    script.__name__ = f"dashboard_script_{name}"
    resource.declare("GET", f"{PATH}{name}.js", role=RequiredRole.OPEN, summary="A script of the page.")(
        script
    )


@cache
def _file(name: str) -> bytes:
    return files("servease_appt.dashboard").joinpath("page", name).read_bytes()
