"""What lies under the cache's own keys is data: what is no answer and no registration is passed over."""

import json
import threading
from typing import Any

import pytest
import redis

from servease_appt.cache.listener import Listener
from tests.cache.conftest import MakeCache
from tests.cache.testbed import eventually, monkeypatch

BAD = [b"", b"{", b"\xff", b"[1]", b"null", b"[" * 100_000, b'{"pid": "x", "host": 1}']


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_registration_hides_no_other(bad: bytes, make_cache: MakeCache, client: redis.Redis) -> None:
    """The workers that are there are listed all the same."""
    cache = make_cache()
    queries = cache.worker_queries
    eventually(lambda: cache.identity in queries.workers(), "the registration")
    client.hset(cache.keys.workers, mapping={b"\xff\xfe": bad, "forged": bad})
    assert queries.workers()[cache.identity]["pid"]


def test_a_list_of_another_type_is_passed_over(make_cache: MakeCache, client: redis.Redis) -> None:
    """It is nobody's list."""
    cache = make_cache(ready=False, listen=False)
    client.set(cache.keys.workers, "x")
    queries = cache.worker_queries
    assert queries.workers() == {}
    assert queries.unreadable == 1


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_forged_answer_is_passed_over(bad: bytes, make_cache: MakeCache, client: redis.Redis) -> None:
    """The real ones are waited for and given."""
    cache = make_cache()
    listener: Any = cache.listener
    assert isinstance(listener, Listener)
    send, forged = listener.send_soon, threading.Event()

    def forge_first(*command: str | bytes) -> None:
        if command[0] == "PUBLISH" and not forged.is_set():
            client.publish(command[1], bad)
            client.publish(command[1], json.dumps({"worker": 5}))
            forged.set()
        send(*command)

    monkeypatch(listener, "send_soon", forge_first)
    queries = cache.worker_queries
    assert [answer["worker"] for answer in queries.query("heard", timeout_s=5.0)] == [cache.identity]
    assert forged.is_set()
    assert queries.unreadable == 2
