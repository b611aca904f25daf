"""Make the Redis client that RedisCache, RedisSentinelCache or RedisClusterCache make from the same settings.

The differences: it uses RESP3, it has a timeout of 0.2 s and no retries (`CACHE_OPTIONS` may change these), and
it never reads from replicas, since they lag behind the primary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from redis import Redis
from redis.cluster import RedisCluster
from redis.connection import parse_url

from servease_appt.cache.flask_caching.setting_values import InvalidSetting, whole_number
from servease_appt.cache.l2.cluster_client import Cluster
from servease_appt.cache.redis_client import check_client, client_options, connect
from servease_appt.cache.sentinel import Sentinels

_OWN_SCHEMES = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


def make_client(config: Mapping[str, Any], options: Mapping[str, Any]) -> Redis:
    """Return a client; nothing is sent yet.

    Args:
        config: the `CACHE_REDIS_*` settings.
        options: the client's options from `CACHE_OPTIONS`.

    Raises:
        InvalidSetting: a ValueError that names the setting.
    """
    sentinel = config.get("CACHE_REDIS_SENTINELS") or config.get("CACHE_REDIS_SENTINEL_MASTER")
    if sentinel and config.get("CACHE_REDIS_CLUSTER"):
        raise InvalidSetting(
            "CACHE_REDIS_CLUSTER", config["CACHE_REDIS_CLUSTER"], "none where CACHE_REDIS_SENTINEL* is set"
        )
    if options.get("decode_responses"):
        raise InvalidSetting("CACHE_OPTIONS['decode_responses']", True, "False: values are bytes")
    try:
        if config.get("CACHE_REDIS_CLUSTER"):
            return _cluster(config, options)
        client = _sentinel_master(config, options) if sentinel else _single(config, options)
        # redis-py refuses an unknown option only when a connection is made.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except TypeError as error:
        raise InvalidSetting("CACHE_OPTIONS", sorted(options), f"redis-py's options ({error})") from error
    return _checked(client)


def _single(config: Mapping[str, Any], options: Mapping[str, Any]) -> Redis:
    url, host = config.get("CACHE_REDIS_URL"), config.get("CACHE_REDIS_HOST", "localhost")
    database = whole_number(config, "CACHE_REDIS_DB", 0, at_least=0)
    if url:
        return _from_url(url, database, options)
    if isinstance(host, RedisCluster):
        raise InvalidSetting("CACHE_REDIS_HOST", host, "for a cluster, its nodes in CACHE_REDIS_CLUSTER")
    if isinstance(host, Redis):
        # A new client on the host's pool: closing it leaves the host's connections open.
        return Redis(connection_pool=host.connection_pool)
    if not isinstance(host, str):
        raise InvalidSetting("CACHE_REDIS_HOST", host, "a name, an address or a redis.Redis client")
    arguments = client_options() | dict(options)
    arguments |= {"host": host, "port": whole_number(config, "CACHE_REDIS_PORT", 6379), "db": database}
    if config.get("CACHE_REDIS_PASSWORD"):
        arguments["password"] = config["CACHE_REDIS_PASSWORD"]
    return Redis(**arguments)


def _from_url(url: Any, database: Any, options: Mapping[str, Any]) -> Redis:
    scheme = urlsplit(str(url)).scheme
    try:
        if scheme in _OWN_SCHEMES and not options:
            return connect(url)
        # The database in the URL, if any, wins.
        return Redis.from_url(url, **(client_options() | {"db": database} | dict(options)))
    except (ValueError, AttributeError) as error:
        allowed = (
            "redis://, rediss:// or unix://, or without CACHE_OPTIONS redis+sentinel:// or redis+cluster://"
        )
        raise InvalidSetting("CACHE_REDIS_URL", f"{scheme}://…", f"{allowed} ({error})") from error


def _sentinel_master(config: Mapping[str, Any], options: Mapping[str, Any]) -> Redis:
    sentinels = config.get("CACHE_REDIS_SENTINELS") or [("127.0.0.1", 26379)]
    for_sentinels = client_options() | {
        name.removeprefix("sentinel_"): value
        for name, value in options.items()
        if name.startswith("sentinel_")
    }
    for_sentinels["password"] = config.get("CACHE_REDIS_SENTINEL_PASSWORD")
    arguments = client_options() | {
        name: value for name, value in options.items() if not name.startswith("sentinel_")
    }
    arguments["password"] = config.get("CACHE_REDIS_PASSWORD")
    arguments["db"] = whole_number(config, "CACHE_REDIS_DB", 0, at_least=0)
    service = config.get("CACHE_REDIS_SENTINEL_MASTER") or "mymaster"
    try:
        sentinel = Sentinels([(host, port) for host, port in sentinels], service, for_sentinels)
    except ValueError as error:
        raise InvalidSetting("CACHE_REDIS_SENTINELS", sentinels, "pairs of host and port") from error
    return cast("Redis", sentinel.master_for(service, **arguments))  # type: ignore[no-untyped-call]


def _cluster(config: Mapping[str, Any], options: Mapping[str, Any]) -> Redis:
    named, url = config["CACHE_REDIS_CLUSTER"], config.get("CACHE_REDIS_URL")
    if config.get("CACHE_REDIS_DB"):
        raise InvalidSetting("CACHE_REDIS_DB", config["CACHE_REDIS_DB"], "0: a cluster has no other database")
    arguments = client_options() | dict(options)
    arguments.pop("skip_full_coverage_check", None)  # an option of old versions of redis-py
    if url:
        from_url = parse_url(url)  # type: ignore[no-untyped-call]
        nodes = [(from_url.pop("host", "localhost"), from_url.pop("port", 6379))]
        arguments |= from_url
    else:
        try:
            nodes = [
                (host.strip(), int(port)) for host, port in (node.split(":") for node in named.split(","))
            ]
        except (ValueError, AttributeError) as error:
            raise InvalidSetting("CACHE_REDIS_CLUSTER", named, "host1:port1,host2:port2") from error
        arguments["password"] = config.get("CACHE_REDIS_PASSWORD") or ""
    # redis-py's two clients share their commands, but no type.
    return cast("Redis", Cluster(nodes, arguments))


def _checked(client: Redis) -> Redis:
    try:
        check_client(client)
    except ValueError as error:
        raise InvalidSetting(
            "CACHE_REDIS_*", "a client", f"one that gives bytes, by RESP3 ({error})"
        ) from error
    return client
