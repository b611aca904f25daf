"""The exceptions of the cache.

CacheError
├── CacheUnavailable   L2 did not accept an invalidation: it does not answer, or refuses writes
├── L2Unavailable      L2 did not answer in time; internal: reads and stores continue without L2
│   └── L2RefusedWrite L2 answers, but refuses writes (full, read-only, not permitted)
└── raised by a loader to say why it has no value
    ├── ValueNotFound  the source has no value: cached for a short time
    ├── LoadDenied     the source refused this caller: never cached, never given to another caller
    └── LoadFailed     the source did not answer, and the loader has reported that: the cache logs nothing
"""


class CacheError(Exception):
    """Base of every error of this package."""


class CacheUnavailable(CacheError):
    """L2 did not accept an invalidation; this process dropped its own values anyway.

    Attributes:
        retry_after_s: seconds after which a retry is reasonable.

    Example:
        >>> cache = TwoTierCache(connect("redis://127.0.0.1:1"), (json_codec("customer"),), prefix="my_service")
        >>> try:
        ...     cache.invalidate(["customer_17"])
        ... except CacheUnavailable as error:
        ...     f"try again in {error.retry_after_s} s"
        'try again in 1 s'
        >>> cache.close()
    """

    retry_after_s = 1


class L2Unavailable(CacheError):
    """L2 did not answer within its deadline, or its breaker is open."""


class L2RefusedWrite(L2Unavailable):
    """L2 is reachable and refused a write: `maxmemory`, a read-only replica, an ACL."""


class ValueNotFound(CacheError):
    """Raised by a loader: the source answered that this key has no value.

    Both tiers cache the absence for `CachePolicy.negative_ttl_s`.

    Example:
        >>> def load(key, timeout_s):
        ...     raise ValueNotFound(key)
        >>> cache = TwoTierCache.from_url(url, (json_codec("customer"),), prefix="my_service")
        >>> cache.get_many(["customer_404"], load).no_values
        {'customer_404': <NoValue.NOT_FOUND: 'not_found'>}
        >>> cache.close()
    """


class LoadDenied(CacheError):
    """Raised by a loader: the source refused the caller's credentials.

    A denial is never cached and never given to another caller, and no stale copy is served in its place.

    Example:
        >>> def load(key, timeout_s):
        ...     raise LoadDenied(key)
        >>> cache = TwoTierCache.from_url(url, (json_codec("customer"),), prefix="my_service")
        >>> cache.get_many(["customer_17"], load).no_values
        {'customer_17': <NoValue.DENIED: 'denied'>}
        >>> cache.close()
    """


class LoadFailed(CacheError):
    """Raised by a loader: the source did not answer. A stale copy is served if there is one.

    Any other exception of a loader has the same effect for readers, but is logged with its traceback: it may be a
    mistake in the loader.

    Example:
        >>> def load(key, timeout_s):
        ...     raise LoadFailed(key)
        >>> cache = TwoTierCache.from_url(url, (json_codec("customer"),), prefix="my_service")
        >>> cache.get_many(["customer_17"], load).no_values
        {'customer_17': <NoValue.FAILED: 'failed'>}
        >>> cache.close()
    """
