"""A user who asks too often is told when to come back; nobody else notices."""

from collections.abc import Iterator

import pytest
import redis

from servease_appt.cache import connect
from servease_appt.rate_limits import Cost, RateLimits
from servease_appt.testing.servers import EmbeddedValkey

ALICE, BOB = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


_CLIENTS: list[redis.Redis] = []


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def clients() -> Iterator[list[redis.Redis]]:
    """The clients that a test's limits use, closed at its end."""
    _CLIENTS.clear()
    yield _CLIENTS
    for client in _CLIENTS:
        client.close()


def limits(url: str, normal: int = 20, costly: int = 10, clock: Clock | None = None) -> RateLimits:
    """One worker's limits."""
    per_minute = {Cost.NORMAL: normal, Cost.COSTLY: costly}
    _CLIENTS.append(connect(url))
    return RateLimits(_CLIENTS[-1], "test", per_minute, clock or Clock())


def let_through(worker: RateLimits, user: str, requests: int, cost: Cost = Cost.NORMAL) -> int:
    """Make requests and return how many were let through."""
    waits_s = [worker.wait_s(user, cost) for _ in range(requests)]
    assert all(0 <= wait_s <= 60 for wait_s in waits_s)
    return waits_s.count(0)


def test_a_limit_counts_for_each_user_and_cost(redis_url: str) -> None:
    """A tenth passes by the worker's own count, then the bucket; other users and costs are not affected."""
    worker = limits(redis_url)
    assert let_through(worker, ALICE, 100) == 22
    assert let_through(worker, ALICE, 100, Cost.COSTLY) == 11
    assert let_through(worker, BOB, 5) == 5


def test_workers_share_the_bucket(redis_url: str) -> None:
    """Each worker adds its own tenth and no more."""
    workers = [limits(redis_url) for _ in range(4)]
    assert sum(let_through(worker, ALICE, 50) for worker in workers) == 20 + 4 * 2


def test_a_bucket_fills_again(redis_url: str) -> None:
    """What was refused is let through later, and an unused bucket disappears."""
    worker = limits(redis_url)
    assert let_through(worker, ALICE, 100) < 100
    assert worker.wait_s(ALICE, Cost.NORMAL) > 0
    with redis.Redis.from_url(redis_url) as client:
        (key,) = client.keys("test:__rate:*")
        assert key == f"test:__rate:normal:{ALICE}".encode()
        assert 0 < client.pttl(key) <= 60_000
        client.hset(key, "at", 1)
    assert let_through(worker, ALICE, 1) == 1


def test_few_requests_ask_redis_nothing(redis_url: str) -> None:
    """Pages of a normal user cost no command; the worker's count begins anew each minute."""
    clock = Clock()
    worker = limits(redis_url, clock=clock)
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(3):
            assert let_through(worker, ALICE, 2) == 2
            clock.now_s += 60
        assert client.keys("*") == []


def test_without_redis_everybody_is_let_through(own_valkey: EmbeddedValkey) -> None:
    """A limit that cannot be counted limits nobody, and costs no timeout a request."""
    worker = limits(own_valkey.url(1))
    own_valkey.stop()
    assert let_through(worker, ALICE, 1000) == 1000


@pytest.mark.parametrize("cost", Cost)
def test_zero_is_no_limit(redis_url: str, cost: Cost) -> None:
    """The operator can turn it off."""
    assert let_through(limits(redis_url, normal=0, costly=0), ALICE, 100, cost) == 100


def test_nothing_is_connected_to_before_it_is_needed() -> None:
    """An application starts without its Redis, a cluster included; then everybody is let through."""
    worker = limits("redis+cluster://127.0.0.1:1")
    assert let_through(worker, ALICE, 50) == 50
