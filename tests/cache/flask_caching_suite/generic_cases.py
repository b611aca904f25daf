"""Flask-Caching's generic cases of a backend, for TwoTierBackend with each kind of client and prefix."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import flask
import flask_caching
import pytest
import redis
from test_backend_cache import GenericCacheTests

from servease_appt.cache.flask_caching import TwoTierBackend
from servease_appt.testing.servers import EmbeddedValkey


class TestTwoTierBackend(GenericCacheTests):
    """As its TestRedisCache: a host's name, clients of the host, a prefix that is a function."""

    _can_use_fast_sleep = False

    @pytest.fixture(params=["host", "client", "varying prefix"])
    def make_cache(self, request: pytest.FixtureRequest, valkey: EmbeddedValkey) -> Iterator[Callable[[], Any]]:
        """Makes the backend that an application would get."""
        app = flask.Flask("generic")
        app.config.update(
            CACHE_TYPE="servease_appt.cache.flask_caching.TwoTierBackend",
            CACHE_REDIS_HOST="127.0.0.1",
            CACHE_REDIS_PORT=valkey.port,
            CACHE_KEY_PREFIX="werkzeug-test-case:",
        )
        if request.param == "client":
            app.config["CACHE_REDIS_HOST"] = redis.Redis(port=valkey.port)
        if request.param == "varying prefix":
            app.config["CACHE_KEY_PREFIX"] = lambda: "werkzeug-test-case:"
        backend = flask_caching.Cache(app).cache
        assert isinstance(backend, TwoTierBackend)
        yield lambda: backend
        backend.clear()
        backend.tiers.close()

    @pytest.fixture
    def sleep(self) -> Callable[[float], None]:
        """Values end by the server's clock."""
        return time.sleep
