"""The conftest of Flask-Caching's tests while they run with TwoTierBackend."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import flask
import flask_caching
import pytest
import redis

from servease_appt.cache.flask_caching import TwoTierBackend

PREFIXES = (f"suite-{number}:" for number in itertools.count())


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The database of the run."""
    return os.environ["SUITE_REDIS_URL"]


@pytest.fixture
def app(request: pytest.FixtureRequest, redis_url: str) -> Iterator[flask.Flask]:
    """An application with the backend that is asked for, and with a prefix of its own."""
    app = flask.Flask(request.module.__name__, template_folder=Path(request.module.__file__).parent)
    app.testing = True
    app.config.update(
        CACHE_TYPE=os.environ["SUITE_BACKEND"],
        CACHE_REDIS_URL=redis_url,
        CACHE_KEY_PREFIX=next(PREFIXES),
    )
    yield app
    for backend in app.extensions.get("cache", {}).values():
        if isinstance(backend, TwoTierBackend):
            backend.close()


@pytest.fixture
def cache(app: flask.Flask) -> flask_caching.Cache:
    """The application's cache."""
    return flask_caching.Cache(app)


class Clock:
    """Makes what is stored older, in Redis and in memory, without waiting."""

    def __init__(self, app: flask.Flask, redis_url: str) -> None:
        self._app = app
        self._redis_url = redis_url

    def advance(self, seconds: float) -> None:
        """Let every key of the server lose this much of its life."""
        with redis.Redis.from_url(self._redis_url) as client:
            for key in client.keys("suite-*"):
                left_ms = client.pttl(key)
                if left_ms > 0:
                    client.pexpire(key, max(1, left_ms - int(seconds * 1000)))
                    if left_ms <= seconds * 1000:
                        client.delete(key)
        for backend in self._app.extensions.get("cache", {}).values():
            if isinstance(backend, TwoTierBackend):
                backend.tiers.l1.flush()


@pytest.fixture
def clock(app: flask.Flask, redis_url: str) -> Clock:
    """A clock to be moved by hand."""
    return Clock(app, redis_url)


@pytest.fixture(params=flask_caching.SUPPORTED_HASH_FUNCTIONS, ids=lambda method: method.__name__)
def hash_method(request: pytest.FixtureRequest) -> object:
    """Each hash that Flask-Caching supports."""
    return request.param


@pytest.fixture
def redis_server() -> None:
    """The server that the tests of RedisCache connect to runs already."""
