"""A redis-py client that fails fast: no retries, short timeouts, no unneeded commands on connect.

redis-py's defaults wait 5 s and try up to 10 times, so that a dead Redis blocks its callers.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from servease_appt.cache.l2.cluster_client import Cluster
from servease_appt.cache.l2.protocol import Backend
from servease_appt.cache.sentinel import PrimaryClient, Sentinels

DEFAULT_TIMEOUT_S = 0.2
DEFAULT_DATABASE = 1
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
TLS_OPTIONS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
_HOST = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(:(?P<port>\d{1,5}))?")


def connect(url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, max_connections: int = 256) -> Redis:
    """Return a Redis client that fails fast; nothing is sent yet. Thread-safe and fork-safe, as its pool is.

    Args:
        url: `redis://host:port/db`, `rediss://…`, `unix:///path?db=1` or `redis+sentinel://h1:p1,h2:p2/SERVICE/db`,
            database 1 if the URL names none; or `redis+cluster://h1:p1,h2:p2`, which has only database 0. With
            `rediss+sentinel://` and `rediss+cluster://` every connection uses TLS, which `?ssl_ca_certs=…` and
            redis-py's other options for TLS configure. The user and password in a URL are those of the servers;
            those of the sentinels are `?sentinel_username=…&sentinel_password=…`.
        timeout_s: limit for connecting and for one operation, in seconds.
        max_connections: maximum number of open connections.

    Returns:
        The client. The caller closes it.

    Raises:
        ValueError: the URL has none of these forms, or an option that is not known.

    Example:
        >>> with connect(url) as client:
        ...     client.ping()
        True
    """
    options = client_options(timeout_s=timeout_s, max_connections=max_connections)
    parts = urlsplit(url)
    if parts.scheme in ("redis+sentinel", "rediss+sentinel"):
        return _sentinel_primary(url, options)
    if parts.scheme in ("redis+cluster", "rediss+cluster"):
        return _cluster(url, options)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"unsupported Redis URL scheme: {parts.scheme}://")
    in_path = parts.scheme != "unix" and parts.path.strip("/")
    _query(parts.query, _single_server_options(parts.scheme))
    if not in_path and "db" not in parse_qs(parts.query):
        options["db"] = DEFAULT_DATABASE
    return Redis.from_url(url, **options)


def database_of(client: Redis | Backend) -> int:
    """Return the number of the database that a client uses."""
    if isinstance(client, (Backend, Cluster)):
        return 0
    return int(client.connection_pool.connection_kwargs.get("db") or 0)


def check_client(client: Redis | Backend) -> None:
    """Raise ValueError for a client that the cache can't use, because one tier would not work with it."""
    if not isinstance(client, Redis):
        return  # no server to connect to; or a cluster's client, which connects at its first command
    made_with = client.connection_pool.connection_kwargs
    if made_with.get("decode_responses"):
        raise ValueError("a client with decode_responses=True returns str, but cached values are bytes")
    if made_with.get("protocol") in (2, "2"):
        raise ValueError(
            "a client with protocol=2 receives no push messages, which L1 needs for invalidations"
        )


def client_options(*, timeout_s: float = DEFAULT_TIMEOUT_S, max_connections: int = 256) -> dict[str, Any]:
    """Return the arguments that make a redis-py client fail fast."""
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 3,
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "max_connections": max_connections,
    }


def _single_server_options(scheme: str) -> set[str]:
    """Return the options that redis-py's connections take; it would fail at the first command for others."""
    classes: list[type] = [AbstractConnection, Connection, UnixDomainSocketConnection]
    if scheme == "rediss":
        classes.append(SSLConnection)
    return {
        "max_connections",
        *(name for one in classes for name in inspect.signature(one).parameters),
    }


def _cluster(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError("a cluster has only database 0")
    hosts, credentials = _hosts(parts.netloc, 6379)
    tls = _tls(parts.scheme, _query(parts.query, TLS_OPTIONS if parts.scheme == "rediss+cluster" else ()))
    # redis-py's two clients share their commands, but no type.
    return cast("Redis", Cluster(hosts, options | credentials | tls))


def _hosts(netloc: str, default_port: int) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Return the hosts of `user:password@h1:p1,[::1]:p2`, and the credentials as redis-py's options."""
    before, _, after = netloc.rpartition("@")
    hosts = []
    for host in after.split(","):
        found = _HOST.fullmatch(host)
        if found is None:
            raise ValueError(f"{host!r} is no host with a port; an IPv6 address needs brackets")
        hosts.append((found["v6"] or found["name"], int(found["port"] or default_port)))
    user, _, password = before.rpartition(":")
    return hosts, {"username": unquote(user) or None, "password": unquote(password)} if before else {}


def _query(query: str, allowed: Iterable[str]) -> dict[str, str]:
    """Return the options of a URL. Raises ValueError for one that would be ignored."""
    given = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    unknown = sorted(given.keys() - set(allowed))
    if unknown:
        possible = ", ".join(sorted(allowed)) or "none"
        raise ValueError(f"unknown option in the URL: {', '.join(unknown)} (allowed: {possible})")
    return given


def _tls(scheme: str, given: dict[str, str]) -> dict[str, Any]:
    """Return redis-py's options for TLS; the certificate is checked unless the URL says otherwise."""
    if not scheme.startswith("rediss"):
        return {}
    options: dict[str, Any] = {name: value for name, value in given.items() if name in TLS_OPTIONS}
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = str(options["ssl_check_hostname"]).lower() in ("1", "true", "yes")
    return {"ssl": True, **options}


def _sentinel_primary(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("a redis+sentinel:// URL names the service: redis+sentinel://h1:p1,h2:p2/SERVICE/1")
    addresses, credentials = _hosts(parts.netloc, 26379)
    with_tls = parts.scheme == "rediss+sentinel"
    given = _query(parts.query, (*SENTINEL_OPTIONS, *(TLS_OPTIONS if with_tls else ())))
    tls = _tls(parts.scheme, given)
    for_sentinels = {
        name: options[name] for name in ("socket_timeout", "socket_connect_timeout", "retry", "driver_info")
    }
    for_sentinels |= tls | {
        name.removeprefix("sentinel_"): given[name] for name in SENTINEL_OPTIONS if name in given
    }
    sentinels = Sentinels(addresses, service, for_sentinels)
    primary: Redis = sentinels.master_for(  # type: ignore[no-untyped-call]
        service, PrimaryClient, db=int(database or DEFAULT_DATABASE), **(options | credentials | tls)
    )
    return primary
