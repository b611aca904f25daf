"""A cluster that does not answer fails as a single server does: with redis-py's RedisError."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from servease_appt.cache import connect
from servease_appt.cache.l2.cluster_client import Cluster
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


@pytest.mark.parametrize("use", [lambda cluster: cluster.nodes.load(), lambda cluster: cluster.client()])
def test_threads_that_use_an_unreachable_cluster_first_wait_for_one_attempt(
    use: Callable[[Cluster], object],
) -> None:
    """Not one after another, each for all the timeouts of its own attempt."""
    threads = 8
    together = threading.Barrier(threads)

    def use_it() -> None:
        together.wait()
        with suppress(RedisError):
            use(cluster)

    with socket.create_server(("127.0.0.1", 0), backlog=threads) as silent:
        options = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
        cluster = Cluster([("127.0.0.1", silent.getsockname()[1])], options)
        waiting = [threading.Thread(target=use_it) for _ in range(threads)]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join()
        cluster.close()
        assert len(list(_connections(silent))) <= 2


def _connections(server: socket.socket) -> Iterator[None]:
    """Accept and close those that wait."""
    server.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            yield
