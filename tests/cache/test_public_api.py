"""What the package offers, and what it does not drag in."""

import subprocess
import sys

import pytest
import redis

import servease_appt.cache
from servease_appt.cache import TwoTierCache, json_codec, two_tier
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.testbed import PREFIX


def test_the_public_names_are_these() -> None:
    """A name that is added or goes is a decision, and this test is where it is seen."""
    assert sorted(servease_appt.cache.__all__) == [
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
    for name in servease_appt.cache.__all__:
        assert getattr(servease_appt.cache, name).__doc__


def test_it_stands_alone() -> None:
    """`import servease_appt.cache` needs the standard library, cachetools and redis, and starts nothing."""
    code = """
import sys, threading
# What the interpreter imports at its start, such as a distribution's sitecustomize, does not count.
before = set(sys.modules)
import servease_appt.cache
dragged_in = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(sorted(name for name in dragged_in if not name.startswith("_")), threading.active_count())
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    found, threads = answer.rsplit(maxsplit=1)
    allowed = {"cachetools", "redis", "servease_appt"}
    for name in ("flask", "sqlalchemy", "requests", "marshmallow", "psycopg2", "orjson", "werkzeug"):
        assert f"'{name}'" not in found
    # redis-py uses the first three where they are installed, and OpenTelemetry needs the others.
    allowed |= {"hiredis", "jwt", "opentelemetry", "typing_extensions", "psutil"}
    assert {name.strip("'") for name in found.strip("[]").split(", ")} <= allowed
    assert threads == "1"


class Client(redis.Redis):
    """A client that knows whether it was closed."""

    closed = False

    def close(self) -> None:
        """Note it."""
        self.closed = True
        super().close()


def test_a_client_that_was_given_stays_open(valkey: EmbeddedValkey) -> None:
    """Whoever made the client closes it: others may be using it."""
    with Client.from_url(valkey.url(1)) as client:
        cache = TwoTierCache(client, (json_codec("customer"),), prefix=PREFIX)
        cache.close()
        assert not client.closed
        assert client.ping()


def test_a_client_of_its_own_is_closed(valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """`from_url` makes a client that nobody else knows."""
    made: list[Client] = []

    def connect(url: str, *, timeout_s: float) -> Client:
        client = Client.from_url(url, socket_timeout=timeout_s)
        assert isinstance(client, Client)
        made.append(client)
        return client

    monkeypatch.setattr(two_tier, "connect", connect)
    cache = TwoTierCache.from_url(valkey.url(1), (json_codec("customer"),), prefix=PREFIX)
    cache.close()
    assert [client.closed for client in made] == [True]
