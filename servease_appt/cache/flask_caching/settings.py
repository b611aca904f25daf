"""Read Flask-Caching's settings, with the meaning they have for RedisCache, RedisSentinelCache, RedisClusterCache.

A setting that is invalid or not supported is refused at the start, with one line that names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

from servease_appt.cache.flask_caching.clients import make_client
from servease_appt.cache.flask_caching.setting_values import InvalidSetting, seconds, whole_number
from servease_appt.cache.policy import CachePolicy

DEFAULT_PREFIX = "flask_cache_"
DEFAULTS = CachePolicy()
FOR_EVER_S = 365 * 24 * 3600.0
DEFAULT_MAX_VALUE_BYTES = 16 * 1024**2
_NOT_THE_CLIENTS = ("default_timeout", "ignore_delete_many_errors", "key_prefix", "check_connection")
# Characters with a special meaning in a glob pattern, a hash tag, a message or a log line.
_UNSAFE = {code: f"%{code:02X}" for code in (*range(0x20), *b"*?[]\\^{}%", 0x7F)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """The settings of one backend."""

    client: Redis
    key_prefix: str | Callable[[], str]
    """The setting as given. A function is called for each operation, and its result is put before the key."""
    default_timeout_s: int
    """Seconds; 0 or -1: no expiry."""
    ignore_delete_many_errors: bool
    policy: CachePolicy
    max_value_bytes: int
    """Maximum length of a value in bytes; longer values are not stored."""
    refresh_ahead_s: float
    """Seconds before its expiry from which a call of `TwoTierFlaskCache` replaces a value; 0: never."""
    run_wait_s: float
    """Seconds that a call of `TwoTierFlaskCache` waits for another run of the same key before it runs itself."""
    eviction_wait_s: float
    """Seconds that a deletion waits for the other workers to drop the keys; 0: it does not wait."""

    @property
    def prefix(self) -> str:
        """The prefix of every key and of the channel."""
        return safe_prefix(self.key_prefix) if isinstance(self.key_prefix, str) else DEFAULT_PREFIX


def read_settings(config: Mapping[str, Any], options: Mapping[str, Any]) -> BackendSettings:
    """Return the backend's settings for an application's `CACHE_*` settings.

    Args:
        config: Flask-Caching's settings.
        options: the arguments that Flask-Caching passes to a backend's constructor, with `CACHE_OPTIONS`.

    Raises:
        InvalidSetting: a ValueError that names the setting, the value and what is allowed.
        RuntimeError: `check_connection` is set, and Redis does not answer.
    """
    if config.get("CACHE_ARGS"):
        raise InvalidSetting(
            "CACHE_ARGS", config["CACHE_ARGS"], "none; name them in CACHE_REDIS_* or CACHE_OPTIONS"
        )
    prefix = config.get("CACHE_KEY_PREFIX") or options.get("key_prefix") or ""
    if not isinstance(prefix, str) and not callable(prefix):
        raise InvalidSetting("CACHE_KEY_PREFIX", prefix, "a text, or a function that returns one")
    timeout_s = _default_timeout(options.get("default_timeout", 300))
    refresh_ahead_s = seconds(config, "CACHE_REFRESH_AHEAD", 0.0)
    l1_ttl_s = seconds(config, "CACHE_L1_TIMEOUT", DEFAULTS.l1_ttl_s)
    if refresh_ahead_s > l1_ttl_s:
        raise InvalidSetting("CACHE_REFRESH_AHEAD", refresh_ahead_s, "CACHE_L1_TIMEOUT or less")
    client = make_client(config, {name: v for name, v in options.items() if name not in _NOT_THE_CLIENTS})
    settings = BackendSettings(
        client=client,
        key_prefix=prefix,
        default_timeout_s=timeout_s,
        ignore_delete_many_errors=bool(options.get("ignore_delete_many_errors", False)),
        policy=CachePolicy(
            ttl_s=timeout_s if timeout_s > 0 else FOR_EVER_S,
            # So a value in use is read from L2 in its last seconds, which shows that it is due.
            l1_ttl_s=refresh_ahead_s or l1_ttl_s,
            l1_maxsize=whole_number(config, "CACHE_L1_MAXSIZE", DEFAULTS.l1_maxsize),
            l1_max_bytes=whole_number(config, "CACHE_L1_MAX_BYTES", DEFAULTS.l1_max_bytes),
            l1_max_value_bytes=whole_number(config, "CACHE_L1_MAX_VALUE_BYTES", DEFAULTS.l1_max_value_bytes),
            l1_within_l2=True,
            stale_ttl_s=seconds(config, "CACHE_STALE_TIMEOUT", 0.0),
        ),
        refresh_ahead_s=refresh_ahead_s,
        run_wait_s=seconds(config, "CACHE_RUN_WAIT", 10.0),
        eviction_wait_s=seconds(config, "CACHE_EVICTION_WAIT", 1.0),
        max_value_bytes=whole_number(config, "CACHE_MAX_VALUE_BYTES", DEFAULT_MAX_VALUE_BYTES),
    )
    if options.get("check_connection"):
        try:
            client.ping()
        except Exception as error:
            raise RuntimeError(f"could not connect to Redis server: {error}") from error
    return settings


def safe_prefix(prefix: str) -> str:
    """Return a prefix whose characters with a special meaning in patterns or messages are escaped."""
    return prefix.translate(_UNSAFE)


def _default_timeout(value: Any) -> int:
    allowed = "whole seconds or a timedelta; 0: no end"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidSetting("CACHE_DEFAULT_TIMEOUT", value, allowed)
    if value < -1:
        raise InvalidSetting("CACHE_DEFAULT_TIMEOUT", value, allowed)
    return math.ceil(value)
