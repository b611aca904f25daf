"""A cluster that does not answer fails as a single server does: with redis-py's RedisError."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import RedisError

from servease_appt.cache import connect
from tests.cache.testbed import CODECS, PREFIX, Cache, Versioned, eventually

AWAY = "redis+cluster://127.0.0.1:1,127.0.0.1:2"


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.ping(),
        lambda client: client.get("a"),
        lambda client: client.hgetall("a"),
        lambda client: list(client.scan_iter(match="*")),
        lambda client: client.publish("a", "b"),
        lambda client: client.info("everything"),
        lambda client: client.pubsub().subscribe("a"),
    ],
)
def test_each_command_raises_a_redis_error(call: Callable[[Any], object]) -> None:
    """Callers handle RedisError; RedisClusterException is none."""
    client = connect(AWAY)
    with pytest.raises(RedisError):
        call(client)
    client.close()


def test_closing_a_cache_and_its_listener_need_no_cluster(caplog: pytest.LogCaptureFixture) -> None:
    """No error on close, and no traceback from the listener's attempts to connect."""
    caplog.set_level(logging.DEBUG)
    cache = Cache(connect(AWAY), CODECS, prefix=PREFIX, owns_client=True)
    cache.start()
    eventually(lambda: cache.get("customer_1", lambda _key, _: Versioned("1", 1)) is not None, "a page")
    cache.close()
    assert not [record for record in caplog.records if record.exc_info]
