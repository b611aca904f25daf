"""Marshmallow validators for the hosts and URLs in settings. They look at the text and ask no server."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from marshmallow import ValidationError
from marshmallow import validate as v

_REDIS_PATHS = {
    "redis": re.compile(r"(/\d*)?"),
    "rediss": re.compile(r"(/\d*)?"),
    "unix": re.compile(r"/.+"),
    "redis+sentinel": re.compile(r"/[^/]+(/\d*)?"),
    "redis+cluster": re.compile(r"(/0?)?"),
}
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
    """Checks hosts and path as well: redis-py ignores what it can't use there."""

    _scheme_and_port = check_url(*_REDIS_PATHS)

    def __call__(self, value: str) -> str:
        self._scheme_and_port(value)
        parts = urlsplit(value)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        if parts.scheme != "unix" and not all(_REDIS_HOST.fullmatch(host) for host in hosts):
            raise ValidationError("hosts")
        if not _REDIS_PATHS[parts.scheme].fullmatch(parts.path):
            raise ValidationError("path")
        return value
