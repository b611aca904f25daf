"""The OpenAPI document of this API, and Swagger UI to try it. The page loads nothing from other hosts."""

from functools import cache
from html import escape
from importlib.resources import files

from flask import Response, url_for

from servease_appt.api.context import api_document, api_endpoint
from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.operations import DocumentSchema

# Swagger UI's style sheet has its icons as data URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MAX_AGE_S = 3600
_SWAGGER_UI = "flask_swagger_ui"
"""The package that has Swagger UI's files in its folder `dist`. Its Python code is not used."""

resource = Resource("docs", "/docs/", "This document")
DOCUMENT = DocumentSchema()


@resource.declare("GET", "/openapi.json", role=RequiredRole.OPEN, summary="This document.", answer=DOCUMENT)
def openapi_document() -> Response:
    """Return the OpenAPI document, with the address under which the API is mounted here."""
    return json_response({**api_document(), "servers": [{"url": _base() or "/"}]})


@resource.declare(
    "GET", "/docs", role=RequiredRole.OPEN, summary="A page to try the API.", media_type="text/html"
)
def docs_page() -> Response:
    """Return the page."""
    page = _file("servease_appt.api", "docs_page/page.html").decode().replace("{{base}}", escape(_base()))
    return Response(page, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})


def _declare_file(name: str, package: str, path: str, mimetype: str) -> None:
    """Serve a file that the page loads at `/docs/<name>`."""

    def send() -> Response:
        headers = {"Cache-Control": f"public, max-age={_MAX_AGE_S}"}
        return Response(_file(package, path), mimetype=mimetype, headers=headers)

    send.__name__ = f"docs_{name.replace('.', '_').replace('-', '_')}"
    resource.declare(
        "GET", f"/docs/{name}", role=RequiredRole.OPEN, summary="A file of the page.", in_document=False
    )(send)


for _name, _mimetype in (
    ("page.css", "text/css"),
    ("page.js", "text/javascript"),
    ("accessibility.js", "text/javascript"),
):
    _declare_file(_name, "servease_appt.api", f"docs_page/{_name}", _mimetype)
_declare_file("swagger-ui-bundle.js", _SWAGGER_UI, "dist/swagger-ui-bundle.js", "text/javascript")
_declare_file("swagger-ui.css", _SWAGGER_UI, "dist/swagger-ui.css", "text/css")


def _base() -> str:
    """Return the path under which the API is mounted, without a slash at its end."""
    return url_for(api_endpoint("docs.openapi_document")).removesuffix("/openapi.json")


@cache
def _file(package: str, path: str) -> bytes:
    return files(package).joinpath(path).read_bytes()
