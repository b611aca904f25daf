"""The environment, read once: names and values become a frozen `Settings`, or one list of mistakes.

The service on its own reads the names as they are. In a host's `app.config` they have the prefix `SERVEASE_`,
since `SECRET_KEY` and `CACHE_KEY_PREFIX` mean something else there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast
from urllib.parse import quote
from zoneinfo import ZoneInfo

from marshmallow import ValidationError

from servease_appt.environment import Environment
from servease_appt.masking import MASK, mask_refused_url, mask_url

CONFIG_PREFIX = "SERVEASE_"
"""What the names begin with in a host application's `app.config`."""
_SECRET_NAMES = frozenset({"SECRET_KEY", "DB_PASSWORD", "METRICS_TOKEN"})
_LONGEST_SHOWN = 200


class SettingsError(Exception):
    """Every mistake found in the configuration, one line each in `problems`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the service was started with. `repr` shows no secret. Seconds where a name ends in `_s`."""

    secret_key: str
    redis_url: str
    database_url: str
    database_replica_url: str | None = None
    database_replica_max_lag_s: float = 1.0
    customer_service_url: str
    employee_service_url: str
    vehicle_service_url: str
    upstream_timeout_s: float
    upstream_auth: Literal["caller", "service"]
    cache_key_prefix: str
    cache_timeout_s: float
    cache_l1_timeout_s: float
    cache_l1_maxsize: int
    cache_negative_timeout_s: float
    cache_stale_timeout_s: float
    cache_tracking: bool = True
    max_concurrent_appointments: int
    default_appointment_duration_minutes: int
    business_timezone: ZoneInfo
    cors_allowed_origins: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    metrics_enabled: bool
    metrics_token: str | None
    tracing_enabled: bool = False
    rate_limit_per_minute: int
    rate_limit_costly_per_minute: int
    event_stream_maxlen: int

    @classmethod
    def from_environment(cls) -> Settings:
        """Read `os.environ`. Raises SettingsError."""
        return cls.from_mapping(os.environ)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Settings:
        """Read a host application's configuration: the known names with the prefix `SERVEASE_`, and no others.

        Metrics are off unless `SERVEASE_METRICS_ENABLED` turns them on.

        Args:
            config: `app.config`.
            defaults: values for names, without the prefix, that the configuration leaves out.

        Raises:
            SettingsError: each line names the key as it stands in `config`.
        """
        given = {
            name.removeprefix(CONFIG_PREFIX): value
            for name, value in config.items()
            if name.startswith(CONFIG_PREFIX) and value not in ("", None)
        }
        try:
            return cls.from_mapping({"METRICS_ENABLED": False, **(defaults or {}), **given})
        except SettingsError as error:
            raise SettingsError([f"{CONFIG_PREFIX}{problem}" for problem in error.problems]) from None

    @classmethod
    def from_mapping(cls, source: Mapping[str, Any]) -> Settings:
        """Read the known names out of `source`; empty values count as unset. Raises SettingsError."""
        given = {
            name: value
            for name, value in source.items()
            if name in Environment.NAMES and value not in ("", None)
        }
        problems: list[str] = []
        try:
            loaded = cast("dict[str, Any]", Environment().load(given))
        except ValidationError as error:
            problems = [_problem(name, given) for name in sorted(cast("dict[str, Any]", error.messages))]
            loaded = {}
        if "DATABASE_URL" not in given and "DB_HOST" not in given:
            problems.append(
                "DATABASE_URL is not set: give a postgresql:// URL, or DB_HOST with DB_PORT, DB_USER,"
                " DB_PASSWORD and APPOINTMENT_DB_NAME"
            )
        if "DATABASE_SCHEMA" in given and "options=" in str(given.get("DATABASE_URL")):
            problems.append(_problem("DATABASE_SCHEMA", given))
        if "DATABASE_REPLICA_URL" in given and (
            given["DATABASE_REPLICA_URL"] == given.get("DATABASE_URL")
            or ("DATABASE_SCHEMA" in given and "options=" in str(given["DATABASE_REPLICA_URL"]))
        ):
            problems.append(_problem("DATABASE_REPLICA_URL", given))
        if problems:
            raise SettingsError(problems)
        redis_url = (
            loaded.pop("redis_url") or f"redis://{_bracketed(loaded['redis_host'])}:{loaded['redis_port']}/1"
        )
        database_url = loaded.pop("database_url") or _database_url(loaded)
        replica_url, schema = loaded.pop("database_replica_url"), loaded.pop("database_schema")
        known = {field.name for field in fields(cls)}
        return cls(
            redis_url=redis_url,
            database_url=_in_schema(_with_psycopg2(database_url), schema),
            database_replica_url=replica_url and _in_schema(_with_psycopg2(replica_url), schema),
            **{name: value for name, value in loaded.items() if name in known},
        )

    def __repr__(self) -> str:
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        shown["secret_key"] = MASK
        shown["metrics_token"] = self.metrics_token and MASK
        shown |= {name: mask_url(value) for name, value in shown.items() if name.endswith("_url") and value}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def _problem(name: str, given: Mapping[str, Any]) -> str:
    allowed = Environment().fields[Environment.NAMES[name]].metadata["allowed"]
    if name not in given:
        return f"{name} is not set: allowed is {allowed}"
    value = given[name]
    if name in _SECRET_NAMES:
        shown = MASK
    elif name == "CORS_ALLOWED_ORIGINS":
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
        shown = ",".join(mask_refused_url(str(item)) for item in items)
    elif name.endswith("_URL"):
        shown = mask_refused_url(str(value))
    else:
        shown = str(value)
    shown = shown[:_LONGEST_SHOWN]  # not before it is masked: the cut might take away what tells a password
    return f"{name}={shown!r} can't be used: allowed is {allowed}"


def _database_url(loaded: Mapping[str, Any]) -> str:
    password = f":{quote(loaded['db_password'], safe='')}" if loaded["db_password"] else ""
    user = quote(loaded["db_user"], safe="")
    place = f"{_bracketed(loaded['db_host'])}:{loaded['db_port']}"
    return f"postgresql://{user}{password}@{place}/{loaded['appointment_db_name']}"


def _bracketed(host: str) -> str:
    """Return the host as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _with_psycopg2(url: str) -> str:
    """SQLAlchemy 2.1 takes a bare `postgresql://` to mean psycopg 3, which is not what is installed."""
    return "postgresql+psycopg2://" + url.split("://", 1)[1]


def _in_schema(url: str, schema: str | None) -> str:
    """Return the URL with a session option that has every unqualified name of a table looked up in `schema`."""
    if schema is None:
        return url
    return f"{url}{'&' if '?' in url else '?'}options={quote(f'-csearch_path={schema}')}"
