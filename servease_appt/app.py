"""The service as an application of its own, and the short form of embedding it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask

from servease_appt import api
from servease_appt.api import ApiBlueprint
from servease_appt.container import EXTENSION, Container
from servease_appt.dashboard.blueprint import DASHBOARD, dashboard, dashboard_views
from servease_appt.extension import API_PREFIX, COMMANDS, ServEase, compose, tie
from servease_appt.settings import Settings


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
    for group in COMMANDS:
        app.cli.add_command(group)
    tie(app, container)
    return app


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
