"""The Redis users of docs/security.md, on a real server: enough for the service, and no more."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from servease_appt.cache import Mode, TwoTierCache, connect, json_codec
from servease_appt.rate_limits import Cost, RateLimits
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

GUIDE = Path(__file__).parents[2] / "docs" / "security.md"
PREFIX = "appointment_service"
KEY = "customer_1"

Cache = TwoTierCache[Mapping[str, Any]]


def url_of(user: str, server: EmbeddedValkey) -> str:
    """Make a user of the guide, and return the URL with which it connects."""
    (command,) = re.findall(rf"^ACL SETUSER {user} .*$", GUIDE.read_text("utf-8"), re.MULTILINE)
    with Redis.from_url(server.url(1)) as admin:
        admin.execute_command(*command.split())
    return server.url(1).replace("redis://", f"redis://{user}:PASSWORD@")


@pytest.fixture
def url(own_valkey: EmbeddedValkey) -> str:
    """Return the URL of the service's user."""
    return url_of("appointment_service", own_valkey)


@pytest.fixture
def workers(url: str) -> Iterator[list[Cache]]:
    """Two caches that listen to each other."""
    caches = [
        TwoTierCache(connect(url), (json_codec("customer"),), prefix=PREFIX, owns_client=True) for _ in "ab"
    ]
    for cache in caches:
        cache.start()
    yield caches
    for cache in caches:
        cache.close()


def test_the_service_works_with_the_rights_of_the_guide(
    workers: list[Cache], url: str, own_valkey: EmbeddedValkey
) -> None:
    """Both tiers serve, invalidations reach the other worker, queries are answered, and requests are counted."""
    one, other = workers
    wait_until(lambda: {cache.mode for cache in workers} == {Mode.BOTH}, timeout_s=20)

    assert other.get(KEY, lambda _key, _timeout_s: {"n": 1}) == {"n": 1}
    assert one.get(KEY, lambda _key, _timeout_s: {"n": 2}) == {"n": 1}
    one.invalidate([KEY])
    wait_until(lambda: other.get(KEY, lambda _key, _timeout_s: {"n": 3}) == {"n": 3}, timeout_s=20)
    one.invalidate_matching("customer_*")
    wait_until(lambda: other.get(KEY, lambda _key, _timeout_s: {"n": 4}) == {"n": 4}, timeout_s=20)
    assert len(list(one.worker_queries.answers("heard", timeout_s=20, expected=len(workers)))) == len(workers)
    with connect(url) as client:
        limits = RateLimits(client, PREFIX, {Cost.NORMAL: 10, Cost.COSTLY: 0})
        assert any(limits.wait_s("somebody", Cost.NORMAL) for _ in range(20))
    with Redis.from_url(own_valkey.url(1)) as admin:
        assert admin.execute_command("ACL", "LOG") == []


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "another:key"),
        ("SET", "another:key", "1"),
        ("PUBLISH", "another", "1"),
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
    ],
    ids=" ".join,
)
def test_it_has_no_rights_beyond(url: str, command: tuple[str, ...]) -> None:
    """Other keys and channels, and commands for administrators, are refused."""
    with Redis.from_url(url) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command)


def test_a_neighbour_may_publish_invalidations_only(own_valkey: EmbeddedValkey) -> None:
    """It can neither read a name nor publish elsewhere."""
    with Redis.from_url(url_of("neighbour", own_valkey)) as client:
        assert client.publish(f"{PREFIX}:invalidate", KEY) == 0
        for command in (("GET", f"{PREFIX}:{KEY}"), ("PUBLISH", f"{PREFIX}:__ask", "1")):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)
