"""What lies under the cache's own keys is data: what can not be read stops no command."""

import os
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from tests.cache.conftest import MakeCache
from tests.cache.testbed import eventually

BAD = [b"", b"{", b"\xff", b"[1]", b"null", b"[" * 100_000, b'{"pid": "x", "host": 1}']


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_registration_hides_no_other(bad: bytes, make_cache: MakeCache, client: redis.Redis) -> None:
    """The workers that are there are listed all the same."""
    cache = make_cache()
    queries = cache.worker_queries
    eventually(lambda: cache.identity in queries.workers(), "the registration")
    client.hset(cache.keys.workers, mapping={b"\xff\xfe": bad, "forged": bad})
    assert queries.workers()[cache.identity]["pid"] == os.getpid()


def test_a_list_of_another_type_hides_no_other(make_cache: MakeCache, client: redis.Redis) -> None:
    """It is nobody's list."""
    cache = make_cache(ready=False, listen=False)
    client.set(cache.keys.workers, "x")
    queries = cache.worker_queries
    assert queries.workers() == {}


def test_listeners_are_counted_where_the_server_counts_wrong(
    make_cache: MakeCache, client: redis.Redis
) -> None:
    """Seen to fail: PUBSUB NUMSUB of Valkey 9.1.2 answers numbers of eight digits at 8, 15 and 16 subscribers."""
    cache = make_cache(ready=False, listen=False)
    counted = []
    with ExitStack() as stack:
        for _ in range(16):
            subscriber: Any = stack.enter_context(client.pubsub())  # type: ignore[no-untyped-call]
            subscriber.subscribe(cache.keys.queries)
            subscriber.get_message(timeout=5)
            counted.append(cache.worker_queries.listeners())
    assert counted == list(range(1, 17))
