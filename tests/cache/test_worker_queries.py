"""What lies under the cache's own keys is data: what is no answer and no registration is passed over."""

import json

import pytest
import redis

from tests.cache.conftest import MakeCache
from tests.cache.testbed import eventually

BAD = [b"", b"{", b"\xff", b"[1]", b"null", b"[" * 100_000, b'{"pid": "x", "host": 1}']


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_registration_is_passed_over(bad: bytes, make_cache: MakeCache, client: redis.Redis) -> None:
    """The workers that are there are listed all the same."""
    cache = make_cache()
    queries = cache.worker_queries
    eventually(lambda: cache.identity in queries.workers(), "the registration")
    client.hset(cache.keys.workers, mapping={b"\xff\xfe": bad, "forged": bad})
    assert list(queries.workers()) == [cache.identity]


def test_a_list_of_another_type_is_passed_over(make_cache: MakeCache, client: redis.Redis) -> None:
    """It is nobody's list."""
    cache = make_cache(ready=False, listen=False)
    client.set(cache.keys.workers, "x")
    queries = cache.worker_queries
    assert queries.workers() == {}
    assert queries.unreadable == 1


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_forged_answer_is_passed_over(
    bad: bytes, make_cache: MakeCache, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real ones are waited for and given."""
    cache = make_cache()
    monkeypatch.setattr("secrets.token_hex", lambda _size: "known")
    client.rpush(f"{cache.keys.prefix}:__reply:known", bad, json.dumps({"worker": 5}))
    queries = cache.worker_queries
    assert [answer["worker"] for answer in queries.query("heard", timeout_s=5.0)] == [cache.identity]
    assert queries.unreadable == 2
