"""A small host for gunicorn: one memoized function that reads a number from Redis, where nothing is cached."""

import os

import redis
from flask import Flask
from flask_caching import Cache

URL = os.environ["HOST_REDIS_URL"]
app = Flask("host")
app.config.update(CACHE_TYPE="servease_appt.cache.flask_caching.TwoTierBackend", CACHE_REDIS_URL=URL)
cache = Cache(app)
source = redis.Redis.from_url(URL)


@cache.memoize(300)
def number() -> int:
    """Return the number."""
    return int(str(source.get("number") or b"0", "ascii"))  # type: ignore[arg-type]


@app.get("/")
def read() -> str:
    """Answer with the number, and with who answers."""
    return f"{number()} {os.getpid()}"


@app.post("/")
def forget() -> str:
    """Drop it from every cache."""
    cache.delete_memoized(number)
    return "done"


if os.environ.get("HOST_WARMS_UP"):  # before the fork, where the application is preloaded
    with app.app_context():
        number()
