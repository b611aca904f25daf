"""What every cache command needs: Redis without listening, and one clear line when it is away."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import click
from flask import current_app
from redis import Redis
from redis.exceptions import RedisError

from servease_appt.cache import CacheError, Stats, TwoTierCache, connect
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.worker_queries import WorkerQueries
from servease_appt.container import EXTENSION, Container
from servease_appt.references.enrichment import cache_policy
from servease_appt.references.entities import CODECS, Reference
from servease_appt.settings import Settings, mask_url

REDIS_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Access:
    """The cache as a command sees it: no listener, no worker, and more patience than a request has.

    Attributes:
        client: answers within `REDIS_TIMEOUT_S`, or raises redis-py's errors.
        cache: invalidates and fills as any worker does, but listens to nothing.
        counts: what `cache` did.
    """

    container: Container
    client: Redis
    cache: TwoTierCache[Reference]
    counts: Stats

    @property
    def settings(self) -> Settings:
        """What the service was started with."""
        return self.container.settings

    @property
    def keys(self) -> KeySpace:
        """How keys are named."""
        return self.cache.keys

    @property
    def questions(self) -> WorkerQueries:
        """The way to ask all workers."""
        return self.cache.worker_queries


def current_container() -> Container:
    """The application's parts."""
    return cast("Container", current_app.extensions[EXTENSION])


@contextmanager
def opened() -> Iterator[Access]:
    """Give access for one command. What Redis fails with becomes a `ClickException`: exit code 1, one line."""
    container = current_container()
    settings = container.settings
    client = connect(settings.redis_url, timeout_s=REDIS_TIMEOUT_S)
    counts = Stats()
    cache = TwoTierCache(
        client,
        CODECS,
        prefix=settings.cache_key_prefix,
        policy=cache_policy(settings),
        recorder=counts,
        listen=False,
    )
    try:
        with _quiet_cache():
            yield Access(container, client, cache, counts)
    except (RedisError, CacheError) as error:
        raise click.ClickException(redis_trouble(settings, error)) from error
    finally:
        cache.close()
        client.close()


@contextmanager
def _quiet_cache() -> Iterator[None]:
    """What the cache would log for a worker's operator, a command tells its own."""
    log = logging.getLogger("servease_appt.cache")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def redis_trouble(settings: Settings, error: BaseException) -> str:
    """What to tell of a Redis that does not do what it should, in one line."""
    what = " ".join(str(error).split()) or type(error).__name__
    return (
        f"Redis at {mask_url(settings.redis_url)}: {what.rstrip('.')}."
        " Look at REDIS_URL or REDIS_HOST, or run `cache doctor`."
    )
