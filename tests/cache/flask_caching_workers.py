"""Applications with Flask-Caching on the two-tier backend, each standing for one worker."""

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
import redis
from flask import Flask
from flask_caching import Cache

from servease_appt.cache.breaker import BreakerState
from servease_appt.cache.flask_caching import TwoTierBackend
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.single_server import SingleServerL2
from tests.cache.testbed import eventually

PREFIX = "flask_cache_"
"""What Flask-Caching sets CACHE_KEY_PREFIX to where the application does not."""
Worker = tuple[Flask, Cache, TwoTierBackend]


class NewWorker(Protocol):
    """Makes one more worker."""

    def __call__(self, url: str | None = None, *, cache_class: type[Cache] = Cache, **config: Any) -> Worker:
        """An application with a cache of its own, on the run's server where no URL is given."""


class Commands:
    """What a backend asks Redis from now on, by name; the listener's own commands are not among it."""

    def __init__(self, *backends: TwoTierBackend) -> None:
        self.names: list[str] = []
        for backend in backends:
            assert isinstance(backend.tiers.l2, SingleServerL2)
            backend.tiers.l2._observer = self

    def redis_operation(self, name: str, _seconds: float, _outcome: str) -> None:
        """See `Observer`."""
        self.names.append(name)

    def breaker_changed(self, _name: str, _state: BreakerState) -> None:
        """See `Observer`."""


@pytest.fixture
def new_worker(redis_url: str) -> Iterator[NewWorker]:
    """Makes an application with a cache of its own on the shared server, which knows invalidations.

    The first invalidation that an empty server takes empties every L1, which would hide what a test is after.
    """
    with redis.Redis.from_url(redis_url) as operator:
        operator.set(KeySpace(PREFIX).sequence, 1000)
    made: list[TwoTierBackend] = []

    def make(url: str | None = None, *, cache_class: type[Cache] = Cache, **config: Any) -> Worker:
        app = Flask("host")
        app.config.update(
            CACHE_TYPE="servease_appt.cache.flask_caching.TwoTierBackend", CACHE_REDIS_URL=url or redis_url
        )
        app.config.update(config)
        cache = cache_class(app)
        backend = cache.cache
        assert isinstance(backend, TwoTierBackend)
        made.append(backend)
        backend.tiers.start()
        eventually(lambda: backend.tiers.l1.trusted_until_s > 0, "the confirmation of the channel")
        return app, cache, backend

    yield make
    for backend in made:
        backend.close()
