"""The same application with the appointment service in it: this file is all that it takes."""

from typing import Any

from flask import Flask
from flask_limiter import ExemptionScope
from garage import create_app as create_garage
from garage import csrf, db, limiter, migrate

from servease_appt import ServEase
from servease_appt.db.alembic_filter import include_object

servease = ServEase()
for blueprint in servease.blueprints:
    csrf.exempt(blueprint)
limiter.exempt(servease.blueprint(), flags=ExemptionScope.DEFAULT | ExemptionScope.DESCENDENTS)
migrate.alembic_ctx_kwargs["include_object"] = include_object


def create_app(config: dict[str, Any]) -> Flask:
    """Make the application."""
    app = create_garage(config)
    with app.app_context():
        servease.init_app(app, url_prefix="/garage/api", engine=db.engine)
    return app
