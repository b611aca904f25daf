"""Marshmallow validators for the hosts and URLs in settings. They look at the text and ask no server."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import parse_qs, urlsplit

from marshmallow import ValidationError
from marshmallow import validate as v

_REDIS_PATHS = {
    "redis": re.compile(r"(?:/(?P<db>\d*))?"),
    "rediss": re.compile(r"(?:/(?P<db>\d*))?"),
    "unix": re.compile(r"/.+"),
    "redis+sentinel": re.compile(r"/[^/]+(?:/(?P<db>\d*))?"),
    "rediss+sentinel": re.compile(r"/[^/]+(?:/(?P<db>\d*))?"),
    "redis+cluster": re.compile(r"(?:/(?P<db>0?))?"),
    "rediss+cluster": re.compile(r"(?:/(?P<db>0?))?"),
}
_TLS_OPTIONS = {"ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile"}
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}
REDIS_OPTIONS = {
    "redis+sentinel": _SENTINEL_OPTIONS,
    "rediss+sentinel": _SENTINEL_OPTIONS | _TLS_OPTIONS,
    "redis+cluster": set(),
    "rediss+cluster": _TLS_OPTIONS,
}
"""The options of a URL, for the schemes that redis-py does not know: it ignores none of the other schemes' own."""
_REDIS_HOST = re.compile(r"([^:\[\]]+|\[[^\]]+\])(:\d{1,5})?")
_HTTP_HOST = re.compile(r"([\w.~%-]+|\[[^\]]+\])(:\d*)?")


def check_url(*schemes: str, plain: bool = False) -> v.Validator:
    """Return a check that a text is a URL with one of these schemes.

    Args:
        schemes: such as `http`.
        plain: whether more than scheme, host, port and path is refused.
    """

    class UrlCheck(v.Validator):
        def __call__(self, value: str) -> str:
            try:
                parts = urlsplit(value)
                port = None if "," in parts.netloc else parts.port
            except ValueError as error:
                raise ValidationError(str(error)) from None
            if parts.scheme not in schemes or port == 0:
                raise ValidationError("scheme or port")
            if not parts.netloc and parts.scheme in ("http", "https", "redis", "rediss"):
                raise ValidationError("host")
            if plain and (parts.query or parts.fragment or not _HTTP_HOST.fullmatch(parts.netloc)):
                raise ValidationError("more than scheme, host, port and path")
            return value

    return UrlCheck()


DATABASE_OPTIONS: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
"""Options of libpq with a fixed set of values. libpq itself refuses another value with each connection only."""


class DatabaseUrlCheck(v.Validator):
    """Checks scheme and port, and the options that guard a connection to PostgreSQL."""

    _scheme_and_port = check_url("postgresql", "postgresql+psycopg2", "postgres")

    def __call__(self, value: str) -> str:
        self._scheme_and_port(value)
        given = parse_qs(urlsplit(value).query, keep_blank_values=True)
        for name, allowed in DATABASE_OPTIONS.items():
            values = given.get(name, [])
            if len(values) > 1 or not set(values) <= set(allowed):
                raise ValidationError(f"{name} is one of {', '.join(allowed)}")
        return value


class HostCheck(v.Validator):
    """Refuses a host that would be more than a host in the URL made of it."""

    def __call__(self, value: str) -> str:
        if re.search(r"[\s/?#@%]", value):
            raise ValidationError("more than a host")
        if ":" in value:
            try:
                IPv6Address(value[1:-1] if value.startswith("[") and value.endswith("]") else value)
            except ValueError as error:
                raise ValidationError(str(error)) from None
        return value


class RedisUrlCheck(v.Validator):
    """Checks hosts, path and options as well: redis-py ignores what it can't use there."""

    _scheme_and_port = check_url(*_REDIS_PATHS)

    def __call__(self, value: str) -> str:
        self._scheme_and_port(value)
        parts = urlsplit(value)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        if parts.scheme != "unix" and not all(_REDIS_HOST.fullmatch(host) for host in hosts):
            raise ValidationError("hosts")
        path = _REDIS_PATHS[parts.scheme].fullmatch(parts.path)
        if not path:
            raise ValidationError("path")
        given = parse_qs(parts.query, keep_blank_values=True)
        if "ssl" in given or not given.keys() <= REDIS_OPTIONS.get(parts.scheme, given.keys()):
            raise ValidationError("options")
        in_path = path.groupdict().get("db")
        named = {*given.get("db", []), *([in_path] if in_path else [])}
        if len(named) > 1:
            raise ValidationError("more than one database")
        return value
