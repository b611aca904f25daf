"""Flask-Caching's generic cases of a backend, for TwoTierBackend with each kind of client and prefix."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import flask
import flask_caching
import pytest
import redis
from test_backend_cache import GenericCacheTests  # type: ignore[import-not-found]

from servease_appt.cache.flask_caching import TwoTierBackend


class TestTwoTierBackend(GenericCacheTests):  # type: ignore[misc]
    """As its TestRedisCache: a host's name, clients of the host, a prefix that is a function."""

    _can_use_fast_sleep = False

    @pytest.fixture(params=["host", "client", "varying prefix"])
    def make_cache(self, request: pytest.FixtureRequest, redis_url: str) -> Iterator[Callable[[], Any]]:
        """Makes the backend that an application would get."""
        app, port = flask.Flask("generic"), urlsplit(redis_url).port
        app.config.update(
            CACHE_TYPE="servease_appt.cache.flask_caching.TwoTierBackend",
            CACHE_REDIS_HOST="127.0.0.1",
            CACHE_REDIS_PORT=port,
            CACHE_KEY_PREFIX="werkzeug-test-case:",
        )
        if request.param == "client":
            app.config["CACHE_REDIS_HOST"] = redis.Redis(port=port or 0)
        if request.param == "varying prefix":
            app.config["CACHE_KEY_PREFIX"] = lambda: "werkzeug-test-case:"
        backend = flask_caching.Cache(app).cache
        assert isinstance(backend, TwoTierBackend)
        yield lambda: backend
        backend.clear()
        backend.close()

    @pytest.fixture
    def sleep(self) -> Callable[[float], None]:
        """Values end by the server's clock."""
        return time.sleep
