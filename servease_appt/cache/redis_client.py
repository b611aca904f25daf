"""A redis-py client that fails fast: no retries, short timeouts, no unneeded commands on connect.

redis-py's defaults wait 5 s and try up to 10 times, so that a dead Redis blocks its callers.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

from servease_appt.cache.l2.cluster import Cluster
from servease_appt.cache.l2.protocol import Backend

DEFAULT_TIMEOUT_S = 0.2
DEFAULT_DATABASE = 1


def connect(url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, max_connections: int = 256) -> Redis:
    """Return a Redis client that fails fast; nothing is sent yet. Thread-safe and fork-safe, as its pool is.

    Args:
        url: `redis://host:port/db`, `rediss://…`, `unix:///path?db=1` or `redis+sentinel://h1:p1,h2:p2/SERVICE/db`,
            database 1 if the URL names none; or `redis+cluster://h1:p1,h2:p2`, which has only database 0.
        timeout_s: limit for connecting and for one operation, in seconds.
        max_connections: maximum number of open connections.

    Returns:
        The client. The caller closes it.

    Raises:
        ValueError: the URL has none of these forms.

    Example:
        >>> with connect(url) as client:
        ...     client.ping()
        True
    """
    options = client_options(timeout_s=timeout_s, max_connections=max_connections)
    parts = urlsplit(url)
    if parts.scheme == "redis+sentinel":
        return _sentinel_master(url, options)
    if parts.scheme == "redis+cluster":
        return _cluster(url, options)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"unsupported Redis URL scheme: {parts.scheme}://")
    in_path = parts.scheme != "unix" and parts.path.strip("/")
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


def _cluster(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError("a cluster has only database 0")
    hosts, credentials = _hosts(parts.netloc, 6379)
    # redis-py's two clients share their commands, but no type.
    return cast("Redis", Cluster(hosts, options | credentials))


def _hosts(netloc: str, default_port: int) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Return the hosts of `user:password@h1:p1,h2:p2`, and the credentials as redis-py's options."""
    before, _, after = netloc.rpartition("@")
    hosts = []
    for host in after.split(","):
        name, _, port = host.rpartition(":")
        hosts.append((name, int(port)) if name else (host, default_port))
    user, _, password = before.rpartition(":")
    return hosts, {"username": unquote(user) or None, "password": unquote(password)} if before else {}


def _sentinel_master(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("a redis+sentinel:// URL names the service: redis+sentinel://h1:p1,h2:p2/SERVICE/1")
    sentinels, credentials = _hosts(parts.netloc, 26379)
    options |= credentials
    sentinel_options = {
        name: options[name] for name in ("socket_timeout", "socket_connect_timeout", "retry", "driver_info")
    }
    sentinel = Sentinel(sentinels, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
    master: Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
        service, db=int(database or DEFAULT_DATABASE), **options
    )
    return master
