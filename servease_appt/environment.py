"""The service's environment variables: the default of each, and which values are allowed."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from marshmallow import EXCLUDE, Schema, ValidationError
from marshmallow import fields as f
from marshmallow import validate as v

from servease_appt.address_checks import (
    DATABASE_OPTIONS,
    REDIS_OPTIONS,
    DatabaseUrlCheck,
    HostCheck,
    RedisUrlCheck,
    check_url,
)

SECRET_KEY_MIN_BYTES = 32
METRICS_TOKEN_MIN_LENGTH = 16
SAMPLE_SECRET_KEYS = frozenset(
    {
        "replace-me-with-32-or-more-random-bytes",
        "changeme-changeme-changeme-changeme",
        "your-secret-key-at-least-32-bytes-long",
        "your-256-bit-secret-your-256-bit-secret",
        "a-string-secret-at-least-256-bits-long",
    }
)
_SAMPLE_PREFIXES = ("django-insecure", "your-secret-key", "changeme")


def _check_secret(value: str) -> None:
    lowered = value.lower()
    if (
        len(value.encode()) < SECRET_KEY_MIN_BYTES
        or lowered in SAMPLE_SECRET_KEYS
        or lowered.startswith(_SAMPLE_PREFIXES)
    ):
        raise ValidationError("too short or a known sample")


class _Timezone(f.Field[ZoneInfo]):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> ZoneInfo:
        try:
            return ZoneInfo(value)
        except (KeyError, ValueError, OSError, TypeError) as error:
            raise ValidationError(str(error)) from None


class _Origins(f.Field[tuple[str, ...]]):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[str, ...]:
        origins = tuple(item.rstrip("/") for item in _items(value))
        check = check_url("http", "https", plain=True)
        if any(urlsplit(str(check(origin))).path for origin in origins):
            raise ValidationError("an origin has no path")
        return origins


class _HostNames(f.Field[tuple[str, ...]]):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[str, ...]:
        names = tuple(item.lower() for item in _items(value))
        if not all(_HOST_NAME.fullmatch(name) for name in names):
            raise ValidationError("not the name of a host")
        return names


def _items(value: Any) -> list[str]:
    """Return the items of a comma list, or of a list in a host's configuration, without the empty ones."""
    given = value.split(",") if isinstance(value, str) else value
    return [item.strip() for item in given if item.strip()]


def _text(default: str | None, allowed: str, *checks: v.Validator) -> f.String:
    return f.String(load_default=default, validate=list(checks), metadata={"allowed": allowed})


def _whole(default: int, low: int, high: int) -> f.Integer:
    return f.Integer(
        load_default=default,
        validate=v.Range(low, high),
        metadata={"allowed": f"a whole number from {low} to {high}"},
    )


def _seconds(default: float, low: float, high: float) -> f.Float:
    return f.Float(
        load_default=default,
        validate=v.Range(low, high),
        metadata={"allowed": f"seconds, a number from {low:g} to {high:g}"},
    )


_UPSTREAM = "an http:// or https:// URL without query, user or password"
_HOST = "a host name or an IP address"
_NAME = v.Regexp(r"^[A-Za-z0-9_.:-]{1,64}\Z")
_HOST_NAME = re.compile(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]{2,45}\]", re.ASCII)


class Environment(Schema):
    """Loads variables by name. What a field takes is said by its metadata `allowed`, for messages."""

    class Meta:
        unknown = EXCLUDE

    secret_key = f.String(
        required=True,
        validate=_check_secret,
        metadata={"allowed": f"at least {SECRET_KEY_MIN_BYTES} bytes, and none of the published samples"},
    )
    redis_host = _text("redis", _HOST, v.Length(min=1, max=255), HostCheck())
    redis_port = _whole(6379, 1, 65535)
    redis_url = _text(
        None,
        "redis://host:port/1, unix:///path?db=1,"
        " redis+sentinel://h1:p1,h2:p2/SERVICE/1 or redis+cluster://h1:p1,h2:p2, with one database;"
        " rediss://, rediss+sentinel:// and rediss+cluster:// use TLS, with the options"
        f" {', '.join(sorted(REDIS_OPTIONS['rediss+cluster']))};"
        f" sentinels have {', '.join(sorted(REDIS_OPTIONS['redis+sentinel']))}",
        RedisUrlCheck(),
    )
    database_url = _text(
        None,
        "a postgresql:// or postgresql+psycopg2:// URL; sslmode can be"
        f" {', '.join(DATABASE_OPTIONS['sslmode'])}, and other options of libpq have their own values",
        DatabaseUrlCheck(),
    )
    database_replica_url = _text(
        None,
        "a URL as for DATABASE_URL, and not the same; without options= beside DATABASE_SCHEMA",
        DatabaseUrlCheck(),
    )
    database_replica_max_lag_s = _seconds(1.0, 0.1, 5)
    database_schema = _text(
        None,
        "1 to 63 lower-case letters, digits or _, the first no digit; not beside options= in DATABASE_URL",
        v.Regexp(r"^[a-z_][a-z0-9_]{0,62}\Z"),
    )
    db_host = _text("", _HOST, v.Length(min=1, max=255), HostCheck())
    db_port = _whole(5432, 1, 65535)
    db_user = _text("postgres", "a user name", v.Length(min=1, max=63))
    db_password = _text("", "a password", v.Length(max=1024))
    appointment_db_name = _text(
        "servease_appointments", "1 to 63 characters without ?", v.Regexp(r"^[^?]{1,63}\Z")
    )
    customer_service_url = _text(
        "http://customer-service:8002", _UPSTREAM, check_url("http", "https", plain=True)
    )
    employee_service_url = _text(
        "http://employee-service:8003", _UPSTREAM, check_url("http", "https", plain=True)
    )
    vehicle_service_url = _text(
        "http://vehicleandproject-service:8004", _UPSTREAM, check_url("http", "https", plain=True)
    )
    upstream_timeout_s = _seconds(2.0, 0.05, 25)
    upstream_auth = _text("caller", "caller or service", v.OneOf(["caller", "service"]))
    cache_key_prefix = _text(
        "appointment_service", "1 to 64 letters, digits or any of _ . : -, with no blank", _NAME
    )
    cache_timeout_s = _seconds(300, 1, 86400)
    cache_l1_timeout_s = _seconds(10, 0, 3600)
    cache_l1_maxsize = _whole(10_000, 1, 10_000_000)
    cache_negative_timeout_s = _seconds(60, 0, 86400)
    cache_stale_timeout_s = _seconds(3600, 0, 604800)
    cache_tracking = f.Boolean(load_default=True, metadata={"allowed": "1 or 0"})
    max_concurrent_appointments = _whole(3, 1, 10_000)
    default_appointment_duration_minutes = _whole(60, 1, 1440)
    business_timezone = _Timezone(
        load_default=ZoneInfo("UTC"), metadata={"allowed": "an IANA time zone such as UTC or Asia/Colombo"}
    )
    cors_allowed_origins = _Origins(
        load_default=(), metadata={"allowed": "a comma list of origins such as https://app.example.com"}
    )
    allowed_hosts = _HostNames(
        load_default=(),
        metadata={
            "allowed": "a comma list of host names without port, such as api.example.com,"
            " or .example.com for it and all names below it"
        },
    )
    rate_limit_per_minute = _whole(60_000, 0, 10_000_000)
    rate_limit_costly_per_minute = _whole(6_000, 0, 10_000_000)
    event_stream_maxlen = _whole(0, 0, 10_000_000)
    metrics_enabled = f.Boolean(load_default=True, metadata={"allowed": "1 or 0"})
    metrics_token = _text(
        None,
        f"at least {METRICS_TOKEN_MIN_LENGTH} letters, digits or any of -._~+/=",
        v.Regexp(rf"^[A-Za-z0-9._~+/=-]{{{METRICS_TOKEN_MIN_LENGTH},512}}\Z"),
    )

    tracing_enabled = f.Boolean(load_default=False, metadata={"allowed": "1 or 0"})

    NAMES: dict[str, str] = {}  # noqa: RUF012 - filled once below, by variable name

    def on_bind_field(self, field_name: str, field_obj: f.Field[Any]) -> None:
        field_obj.data_key = _variable(field_name)


_VARIABLES = {
    "database_replica_max_lag_s": "DATABASE_REPLICA_MAX_LAG",
    "upstream_timeout_s": "UPSTREAM_TIMEOUT",
    "cache_timeout_s": "CACHE_TIMEOUT",
    "cache_l1_timeout_s": "CACHE_L1_TIMEOUT",
    "cache_negative_timeout_s": "CACHE_NEGATIVE_TIMEOUT",
    "cache_stale_timeout_s": "CACHE_STALE_TIMEOUT",
    "default_appointment_duration_minutes": "DEFAULT_APPOINTMENT_DURATION",
}


def _variable(field_name: str) -> str:
    return _VARIABLES.get(field_name, field_name.upper())


Environment.NAMES = {_variable(name): name for name in Environment().fields}
