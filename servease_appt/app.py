"""The service as an application of its own, and the short form of embedding it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, url_for

import servease_appt
from servease_appt import api
from servease_appt.api import ApiBlueprint
from servease_appt.api.context import API_NAME
from servease_appt.api.routing import AS_WRITTEN
from servease_appt.container import EXTENSION, Container
from servease_appt.dashboard.blueprint import DASHBOARD, dashboard, dashboard_views
from servease_appt.extension import API_PREFIX, COMMANDS, ServEase, compose, tie
from servease_appt.settings import Settings

_START_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ServEase appointments</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{style}">
</head>
<body>
<main>
<h1>ServEase appointments {version}</h1>
<ul>
<li><a href="{docs}">The API, to try it</a> (<a href="{document}">OpenAPI document</a>)</li>
<li><a href="{dashboard}">The dashboard of the cache</a>, for admins</li>
<li><a href="{health}">Health</a>, <a href="{ready}">readiness</a></li>
</ul>
</main>
</body>
</html>
"""
_START_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


def create_app(settings: Settings | None = None) -> Flask:
    """Make the whole service as an application; nothing is connected to before it is needed.

    Args:
        settings: None reads the environment.

    Raises:
        SettingsError: the environment lacks a variable or has one that can't be used.

    Example:
        >>> from servease_appt.settings import Settings
        >>> needed = {"SECRET_KEY": "k" * 32, "DATABASE_URL": "postgresql://localhost/appointments"}
        >>> app = create_app(Settings.from_mapping(needed))
        >>> app.test_client().get("/api/v1/health/").json["status"]
        'healthy'
        >>> app.extensions["servease"].close()
    """
    app = Flask("servease_appt", static_folder=None)
    container = app.extensions[EXTENSION] = compose(settings or Settings.from_environment())
    app.extensions[DASHBOARD] = dashboard_views(container)
    api.install_hooks(app)
    app.register_blueprint(ApiBlueprint(), url_prefix=API_PREFIX)
    api.register_at_root(app)
    app.register_blueprint(dashboard())
    app.add_url_rule("/", "start_page", _start_page, **AS_WRITTEN)
    for group in COMMANDS:
        app.cli.add_command(group)
    tie(app, container)
    return app


def _start_page() -> Response:
    """Return a page that links to what a person looks for first."""
    root = f"{API_NAME}_root"
    page = _START_PAGE.format(
        version=servease_appt.__version__,
        style=url_for("dashboard.dashboard_style"),
        docs=url_for(f"{root}_docs.docs_page"),
        document=url_for(f"{root}_docs.openapi_document"),
        dashboard=url_for("dashboard.dashboard_page"),
        health=url_for(f"{root}_health.healthy"),
        ready=url_for(f"{root}_health.ready"),
    )
    return Response(page, mimetype="text/html", headers={"Content-Security-Policy": _START_POLICY})


def install(app: Flask, url_prefix: str = API_PREFIX, settings: Mapping[str, Any] | None = None) -> Container:
    """Put the service into a host's application: the short form of `ServEase().init_app`.

    Args:
        app: the host's application.
        url_prefix: where the API is; an empty text is the root.
        settings: settings by the names of the environment variables, without a prefix. None: the keys `SERVEASE_*`
            of `app.config`.

    Returns:
        The parts, which are also `app.extensions["servease"]`.

    Raises:
        SettingsError: a setting is missing or can't be used; the text has a line for each.
        ValueError: `url_prefix` can't be used.
        RuntimeError: the application has the service already, or a command `servease`.
    """
    ServEase().init_app(app, url_prefix, settings=settings)
    container: Container = app.extensions[EXTENSION]
    return container
