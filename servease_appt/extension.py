"""The composition root: the parts of one application are made here, for our own and for a host's.

from servease_appt import ServEase

servease = ServEase()
servease.init_app(app, url_prefix="/garage/api")
"""

from __future__ import annotations

import _thread
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
from flask import Blueprint, Flask
from flask.sansio.app import App
from redis import Redis, RedisError
from sqlalchemy import Engine

from servease_appt import api
from servease_appt.api import ApiBlueprint
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.cache import Observer, TwoTierCache, connect
from servease_appt.cache.redis_client import check_client
from servease_appt.cli import db as db_cli
from servease_appt.cli import slots as slots_cli
from servease_appt.cli.cache import group as cache_cli
from servease_appt.clients import Upstreams
from servease_appt.clients.service_token import ServiceToken
from servease_appt.container import EXTENSION, Container
from servease_appt.dashboard.blueprint import DASHBOARD, Guard, dashboard, dashboard_views
from servease_appt.db.engine import Database
from servease_appt.db.replica import Replica
from servease_appt.db.upkeep import Upkeep
from servease_appt.event_stream import EventStream
from servease_appt.host_connections import HostDatabase, client_url, engine_url, shared_client
from servease_appt.list_reads.lists import OUTCOMES, ListReads
from servease_appt.list_reads.own_writes import OwnWrites
from servease_appt.masking import mask_url
from servease_appt.observability import metric_files
from servease_appt.observability.cache_report import worker_status
from servease_appt.observability.heartbeat import Heartbeat
from servease_appt.observability.metric_history import MetricHistory
from servease_appt.observability.metrics import Metrics
from servease_appt.rate_limits import Cost, RateLimits
from servease_appt.references.enrichment import Lookups, PageTracing, cache_policy
from servease_appt.references.entities import CODECS
from servease_appt.settings import CONFIG_PREFIX, Settings, SettingsError
from servease_appt.signals import announce, reference_invalidated

log = logging.getLogger(__name__)

API_PREFIX = "/api/v1"
COMMAND = "servease"
"""The command of a host's that ours are under: `flask servease cache stats`."""
COMMANDS = (db_cli.commands, cache_cli.commands, slots_cli.commands)


class ServEase:
    """The appointment service as a Flask extension: one object at module level, for any number of applications.

    It keeps nothing of an application; `app.extensions["servease"]` holds the `Container` of each. Outside its
    prefix an application stays as it is: routes, error handlers, hooks, JSON provider, logging, commands.

    Example:
        >>> from flask import Flask
        >>> servease = ServEase()
        >>> app = Flask("garage")
        >>> app.config["SERVEASE_SECRET_KEY"] = "the key that your authentication service signs with"
        >>> app.config["SERVEASE_DATABASE_URL"] = "postgresql://localhost/appointments"
        >>> servease.init_app(app, url_prefix="/garage/api")
        >>> app.test_client().get("/garage/api/health/").status_code
        200
        >>> app.extensions["servease"].close()
    """

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        """Make the blueprints.

        Args:
            app: an application to call `init_app` for at once; None for none yet.
            **options: the other arguments of `init_app`.
        """
        self._api = _HostedApi()
        self._dashboard = _HostedDashboard()
        if app is not None:
            self.init_app(app, **options)

    def init_app(
        self,
        app: Flask,
        url_prefix: str | None = API_PREFIX,
        *,
        engine: Engine | None = None,
        redis: Redis | None = None,
        dashboard: bool | Guard = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Put the service into `app`, under `url_prefix`, with the settings `SERVEASE_*` of `app.config`.

        Nothing is connected to before it is needed. When this raises, `app` is as it was before.

        Args:
            app: the host's application, which has not answered a request yet.
            url_prefix: where the API is, such as `/garage/api`; an empty text is the root. With None it is nowhere
                until `app.register_blueprint(servease.blueprint(), url_prefix=…)`.
            engine: an engine of the host's for `postgresql+psycopg2`, used instead of `SERVEASE_DATABASE_URL`. Its
                pool is shared and stays open. None: an engine of the service's own.
            redis: a client of the host's, used instead of `SERVEASE_REDIS_URL`, with its database, time limits and
                retries. Its pool is shared and stays open. None: a client of the service's own.
            dashboard: True puts the cache's dashboard at `url_prefix` + `/ops/cache/`, for tokens of admins. A
                function is asked before each of its requests as well: None lets it in, all else is the answer.
            settings: settings by the names of the environment variables, without a prefix; `app.config` is then
                not read. None: `app.config`.

        Raises:
            SettingsError: a setting is missing or can't be used; the text has a line for each.
            TypeError: `redis` is no `redis.Redis`.
            ValueError: `url_prefix`, `engine` or `redis` can't be used.
            RuntimeError: the application has the service already, or a command `servease`.
        """
        api.check_place(url_prefix)
        with _parts_added(app, engine, redis, settings) as container:
            if url_prefix is not None:
                app.register_blueprint(self._api, url_prefix=url_prefix)
            if dashboard:
                guard = dashboard if callable(dashboard) else None
                app.extensions[DASHBOARD] = dashboard_views(container, guard)
                app.register_blueprint(self._dashboard, url_prefix=url_prefix)

    def blueprint(self) -> Blueprint:
        """Return the API as a blueprint, for `app.register_blueprint(…, url_prefix=…)`.

        An application that it is registered with gets the service, with the settings `SERVEASE_*` of `app.config`,
        unless `init_app` has put it there before. The same object is returned at each call.
        """
        return self._api

    @property
    def blueprints(self) -> tuple[Blueprint, ...]:
        """Every blueprint of the service, nested ones too, for `csrf.exempt` and the like, which take one each.

        Example:
            >>> servease = ServEase()
            >>> servease.blueprint() in servease.blueprints
            True
        """
        return (self._api, *api.RESOURCES, api.FALLBACK, self._dashboard, self._dashboard.resource)


class _HostedApi(ApiBlueprint):
    """The API with its own hooks, for hosts; brings the parts along where the application has none."""

    def __init__(self) -> None:
        super().__init__()
        api.install_hooks(self)

    def register(self, app: App, options: dict[str, Any]) -> None:
        if EXTENSION in app.extensions:
            super().register(app, options)
        else:
            with _parts_added(app, None, None, None):
                super().register(app, options)


class _HostedDashboard(Blueprint):
    """The dashboard with its own hooks, for hosts."""

    def __init__(self) -> None:
        super().__init__("servease_dashboard", __name__)
        self.resource = dashboard()
        api.install_hooks(self)
        self.register_blueprint(self.resource)


@contextmanager
def _parts_added(
    app: App, engine: Engine | None, redis: Redis | None, settings: Mapping[str, Any] | None
) -> Iterator[Container]:
    """Give a host the parts and the command for the length of the block, and for good if it does not raise."""
    if EXTENSION in app.extensions:
        raise RuntimeError(
            f"{app.name!r} has the appointment service already: an application can have it once"
        )
    if COMMAND in app.cli.commands:
        raise RuntimeError(f"{app.name!r} has a command {COMMAND!r} already: the service's would replace it")
    database = None if engine is None else HostDatabase(engine)
    client = None if redis is None else shared_client(redis)
    read = _settings_of_host(app.config, engine, redis, settings)
    try:
        container = compose(read, database=database, redis=client)
    except SettingsError as error:
        prefix = CONFIG_PREFIX if settings is None else ""
        raise SettingsError([f"{prefix}{problem}" for problem in error.problems]) from error
    app.extensions[EXTENSION] = container
    try:
        yield container
    except BaseException:
        del app.extensions[EXTENSION]
        container.close()
        raise
    app.cli.add_command(click.Group(COMMAND, list(COMMANDS), help="The appointment service."))
    tie(app, container)
    if container.settings.metrics_enabled and metric_files.directory() is None:
        log.warning(
            "Metrics are on, but %s is not set: each worker shows its own alone",
            metric_files.DIRECTORY_VARIABLE,
        )


def tie(app: App, container: Container) -> None:
    """Send invalidations as signals of `app`, and close the parts when it is collected: tests often close nothing.

    A collection may run at any moment, also while this thread holds a lock that closing needs, or the one that
    starting a `threading.Thread` takes. So a bare thread starts the one that closes.
    """
    reference = weakref.ref(app)

    def announce_invalidated(entity: str, ids: tuple[str, ...]) -> None:
        living = reference()
        if isinstance(living, Flask):
            announce(reference_invalidated, living, entity=entity, ids=ids)

    container.lookups.on_invalidated = announce_invalidated
    finalizer = weakref.finalize(app, _thread.start_new_thread, _close_on_a_thread, (container,))
    finalizer.atexit = False  # the cache closes itself then


def _close_on_a_thread(container: Container) -> None:
    threading.Thread(target=container.close, name="servease-close", daemon=True).start()


def _settings_of_host(
    config: Mapping[str, Any], engine: Engine | None, redis: Redis | None, given: Mapping[str, Any] | None
) -> Settings:
    """Read a host's settings; where it gives its own connections, commands use the same servers."""
    implied: dict[str, Any] = {"METRICS_ENABLED": False}
    if engine is not None:
        if config.get(f"{CONFIG_PREFIX}DATABASE_SCHEMA") or (given or {}).get("DATABASE_SCHEMA"):
            raise ValueError("DATABASE_SCHEMA can't be used with engine=: the engine's own search_path holds")
        implied["DATABASE_URL"] = engine_url(engine)
    if redis is not None:
        implied["REDIS_URL"] = client_url(redis)
    if given is not None:
        return Settings.from_mapping({**implied, **given})
    return Settings.from_config(config, implied)


def compose(settings: Settings, *, database: Database | None = None, redis: Redis | None = None) -> Container:
    """Make the parts of one application; nothing is connected to yet.

    Args:
        settings: what the parts are made with.
        database: used instead of one for `settings.database_url`, unless it is None.
        redis: used instead of a client for `settings.redis_url`, unless it is None.

    Raises:
        SettingsError: `settings.redis_url` or `settings.database_url` has an option that its driver does not know.
    """
    client = redis or _redis_client(settings.redis_url)
    database = database or _own_database(settings.database_url)
    metrics = Metrics()
    upstreams = Upstreams.from_urls(
        customer_service_url=settings.customer_service_url,
        employee_service_url=settings.employee_service_url,
        vehicle_service_url=settings.vehicle_service_url,
        timeout_s=settings.upstream_timeout_s,
        pool_size=cache_policy(settings).max_loads,
    )
    lookups = _lookups(settings, client, upstreams, metrics)
    metric_history = MetricHistory(metrics)
    upkeep = Upkeep(
        database, metrics.kept_counts_sampled, _event_delivery(settings, database, client, metrics)
    )
    lookups.cache.attach(
        Heartbeat(
            lookups,
            metrics,
            metric_history,
            upkeep,
            describe=partial(worker_status, lookups, metrics, settings.secret_key),
        )
    )
    return Container(
        settings=settings,
        database=database,
        list_reads=_list_reads(settings, database, client, metrics),
        redis=client,
        upstreams=upstreams,
        lookups=lookups,
        policy=BookingPolicy(
            default_capacity=settings.max_concurrent_appointments,
            default_duration_minutes=settings.default_appointment_duration_minutes,
            timezone=settings.business_timezone,
        ),
        metrics=metrics,
        metric_history=metric_history,
        upkeep=upkeep,
        rate_limits=RateLimits(
            client,
            settings.cache_key_prefix,
            {
                Cost.NORMAL: settings.rate_limit_per_minute,
                Cost.COSTLY: settings.rate_limit_costly_per_minute,
            },
        ),
    )


def _list_reads(settings: Settings, database: Database, client: Redis, metrics: Metrics) -> ListReads:
    url, max_lag_s = settings.database_replica_url, settings.database_replica_max_lag_s
    if url is None:
        return ListReads(database)
    try:
        replica = Replica(url, database, max_lag_s=max_lag_s)
    except ValueError as error:
        raise SettingsError([f"DATABASE_REPLICA_URL={mask_url(url)!r} can't be used: {error}"]) from error
    own_writes = OwnWrites(client, settings.cache_key_prefix, max_lag_s)
    metrics.begin_list_reads(OUTCOMES)
    return ListReads(database, replica, own_writes, metrics.list_read)


def _event_delivery(
    settings: Settings, database: Database, client: Redis, metrics: Metrics
) -> Callable[[], None] | None:
    maxlen = settings.event_stream_maxlen
    if not maxlen:
        return None
    return EventStream(
        database,
        client,
        prefix=settings.cache_key_prefix,
        maxlen=maxlen,
        on_backlog=metrics.event_backlog,
    ).deliver


def _lookups(settings: Settings, client: Redis, upstreams: Upstreams, metrics: Metrics) -> Lookups:
    observer: Observer = metrics
    tracing: PageTracing | None = None
    if settings.tracing_enabled:
        observer, tracing = _traced(metrics)
    cache = TwoTierCache(
        client,
        CODECS,
        prefix=settings.cache_key_prefix,
        policy=cache_policy(settings),
        recorder=metrics,
        observer=observer,
    )
    own_token = ServiceToken(settings.secret_key) if settings.upstream_auth == "service" else None
    return Lookups(cache, upstreams, service_token=own_token, observer=metrics, tracing=tracing)


def _traced(metrics: Metrics) -> tuple[Observer, PageTracing]:
    """Return what makes spans of Redis commands and of lookups. Raises SettingsError without the extra."""
    try:
        from servease_appt.observability.tracing import PageSpans, RedisSpans, tracer
    except ImportError as error:
        raise SettingsError(
            ["TRACING_ENABLED='1' needs: pip install 'servease-appointments[tracing]'"]
        ) from error
    return RedisSpans(tracer(), metrics), PageSpans(tracer())


def _redis_client(url: str) -> Redis:
    try:
        client = connect(url)
        check_client(client)
        if isinstance(client, Redis):
            # Not connected: redis-py reads a URL's options when it makes its first connection.
            client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (ValueError, TypeError, RedisError) as error:
        raise SettingsError([f"REDIS_URL={mask_url(url)!r} can't be used: {error}"]) from error
    return client


def _own_database(url: str) -> Database:
    try:
        return Database(url)
    except ValueError as error:
        raise SettingsError([f"DATABASE_URL={mask_url(url)!r} can't be used: {error}"]) from error
