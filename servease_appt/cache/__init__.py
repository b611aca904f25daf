"""A two-tier cache that keeps a value out of both tiers once it has been invalidated.

Usable alone, with nothing but cachetools and redis:

    >>> from servease_appt.cache import TwoTierCache, connect, json_codec
    >>> client = connect(url)
    >>> cache = TwoTierCache(client, (json_codec("customer"),), prefix="my_service")
    >>> customer = cache.get("customer_17", lambda key, timeout_s: {"name": "Ada"})
    >>> customer["name"]
    'Ada'
    >>> cache.invalidate(["customer_17"])
    1
    >>> cache.close()
    >>> client.close()
"""

from servease_appt.cache.cached_function import CachedFunction
from servease_appt.cache.codecs import Codec, json_codec
from servease_appt.cache.errors import CacheError, CacheUnavailable, LoadDenied, LoadFailed, ValueNotFound
from servease_appt.cache.lifetimes import Lifetimes
from servease_appt.cache.loaders import Loaded
from servease_appt.cache.policy import CachePolicy
from servease_appt.cache.redis_client import connect
from servease_appt.cache.results import Found, Lookup, NoValue, Source
from servease_appt.cache.stats import Event, Observer, Recorder, Stats, Tier
from servease_appt.cache.status import Mode
from servease_appt.cache.tags import Tagged, with_tags
from servease_appt.cache.two_tier import TwoTierCache

__all__ = [
    "CacheError",
    "CachePolicy",
    "CacheUnavailable",
    "CachedFunction",
    "Codec",
    "Event",
    "Found",
    "Lifetimes",
    "LoadDenied",
    "LoadFailed",
    "Loaded",
    "Lookup",
    "Mode",
    "NoValue",
    "Observer",
    "Recorder",
    "Source",
    "Stats",
    "Tagged",
    "Tier",
    "TwoTierCache",
    "ValueNotFound",
    "connect",
    "json_codec",
    "with_tags",
]
