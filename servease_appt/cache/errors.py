"""Everything the cache raises.

CacheError
├── CacheUnavailable   an invalidation could not be made sure of: L2 is away or takes no writes
├── L2Unavailable      L2 did not answer in time; only `two_tier.py` catches it, and goes on without L2
│   └── L2RefusedWrite L2 answers, but takes no writes (full, read-only, not permitted)
└── what a loader raises to say why it has no value
    ├── ValueNotFound  the source knows that there is none: remembered for a short time
    └── LoadDenied     the source refused this caller: never remembered, never given to another caller
"""


class CacheError(Exception):
    """Base of every error of this package."""


class CacheUnavailable(CacheError):
    """L2 did not take an invalidation; this process dropped its own copies all the same. Try again."""

    retry_after_s = 1


class L2Unavailable(CacheError):
    """L2 did not answer within its deadline, or its breaker is open."""


class L2RefusedWrite(L2Unavailable):
    """L2 is reachable and refused a write: `maxmemory`, a read-only replica, an ACL."""


class ValueNotFound(CacheError):
    """Raised by a loader: the source answered that this key has no value."""


class LoadDenied(CacheError):
    """Raised by a loader: the source refused the caller's credentials."""
