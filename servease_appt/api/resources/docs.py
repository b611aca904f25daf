"""The OpenAPI document of this API, and a page to try it. The page loads nothing from other hosts."""

from functools import cache
from html import escape
from importlib.resources import files

from flask import Response, url_for

from servease_appt.api.context import api_document, api_endpoint
from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.operations import DocumentSchema

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

resource = Resource("docs", "/docs/", "This document")
DOCUMENT = DocumentSchema()


@resource.declare("GET", "/openapi.json", role=RequiredRole.OPEN, summary="This document.", answer=DOCUMENT)
def openapi_document() -> Response:
    """Return the OpenAPI document, with the address under which the API is mounted here."""
    return json_response({**api_document(), "servers": [{"url": _base() or "/"}]})


@resource.declare("GET", "/docs", role=RequiredRole.OPEN, summary="A page to try the API.")
def docs_page() -> Response:
    """Return the page."""
    page = _file("page.html").decode().replace("{{base}}", escape(_base()))
    return Response(page, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})


@resource.declare("GET", "/docs/page.css", role=RequiredRole.OPEN, summary="The page's style.")
def docs_style() -> Response:
    """Return the style sheet."""
    return Response(_file("page.css"), mimetype="text/css")


@resource.declare("GET", "/docs/page.js", role=RequiredRole.OPEN, summary="The page's script.")
def docs_script() -> Response:
    """Return the script."""
    return Response(_file("page.js"), mimetype="text/javascript")


def _base() -> str:
    """Return the path under which the API is mounted, without a slash at its end."""
    return url_for(api_endpoint("docs.openapi_document")).removesuffix("/openapi.json")


@cache
def _file(name: str) -> bytes:
    return files("servease_appt.api").joinpath("docs_page", name).read_bytes()
