"""The one place where the parts are put together, into an application of its own or into a host's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import click
from flask import Flask
from redis import Redis

from servease_appt import api
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.cache import TwoTierCache, connect
from servease_appt.cli import db as db_cli
from servease_appt.cli import slots as slots_cli
from servease_appt.cli.cache import group as cache_cli
from servease_appt.clients import Upstreams
from servease_appt.clients.service_token import ServiceToken
from servease_appt.container import Container
from servease_appt.dashboard.blueprint import dashboard
from servease_appt.db.engine import Database
from servease_appt.observability.cache_report import worker_status
from servease_appt.observability.heartbeat import Heartbeat
from servease_appt.observability.metric_history import MetricHistory
from servease_appt.observability.metrics import Metrics
from servease_appt.references.enrichment import Lookups, cache_policy
from servease_appt.references.entities import CODECS
from servease_appt.settings import Settings, SettingsError, mask_url

API_PREFIX = "/api/v1"
COMMANDS = (db_cli.commands, cache_cli.commands, slots_cli.commands)


def create_app(settings: Settings | None = None) -> Flask:
    """The whole service as an application; without `settings` the environment is read.

    Nothing is connected to before it is needed. Raises SettingsError.
    """
    app = Flask("servease_appt", static_folder=None)
    services = _put_together(settings or Settings.from_environment())
    api.register(app, services, API_PREFIX, standalone=True)
    app.register_blueprint(dashboard(services))
    for group in COMMANDS:
        app.cli.add_command(group)
    return app


def install(app: Flask, url_prefix: str = API_PREFIX, settings: Mapping[str, Any] | None = None) -> Container:
    """Put the service into a host's application, under `url_prefix`; `app.config` holds its settings.

    The host's other routes, error handlers and logging are left alone; our commands are under `flask servease`.
    Raises SettingsError.
    """
    services = _put_together(Settings.from_mapping(settings if settings is not None else app.config))
    api.register(app, services, url_prefix, standalone=False)
    app.cli.add_command(click.Group("servease", list(COMMANDS), help="The appointment service."))
    return services


def _redis_client(url: str) -> Redis:
    try:
        return connect(url)
    except ValueError as error:
        raise SettingsError([f"REDIS_URL={mask_url(url)!r} can't be used: {error}"]) from error


def _put_together(settings: Settings) -> Container:
    metrics = Metrics()
    cache = TwoTierCache(
        _redis_client(settings.redis_url),
        CODECS,
        prefix=settings.cache_key_prefix,
        policy=cache_policy(settings),
        recorder=metrics,
        observer=metrics,
    )
    upstreams = Upstreams.from_urls(
        customer_service_url=settings.customer_service_url,
        employee_service_url=settings.employee_service_url,
        vehicle_service_url=settings.vehicle_service_url,
        timeout_s=settings.upstream_timeout_s,
        pool_size=cache.policy.max_loads,
    )
    own_token = ServiceToken(settings.secret_key) if settings.upstream_auth == "service" else None
    lookups = Lookups(cache, upstreams, service_token=own_token, observer=metrics)
    cache.describe_more = partial(worker_status, lookups, metrics, settings.secret_key)
    metric_history = MetricHistory(metrics)
    cache.on_pulse = Heartbeat(lookups, metrics, metric_history)
    return Container(
        settings=settings,
        database=Database(settings.database_url),
        upstreams=upstreams,
        lookups=lookups,
        policy=BookingPolicy(
            default_capacity=settings.max_concurrent_appointments,
            default_duration_minutes=settings.default_appointment_duration_minutes,
            timezone=settings.business_timezone,
        ),
        metrics=metrics,
        metric_history=metric_history,
    )
