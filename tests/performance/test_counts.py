"""What a page costs, in counts: a change that makes it cost more says so here, on any machine.

Times are measured by `make bench`. A ceiling here is some percent above what was counted when it was set; whoever
makes a page cheaper may lower it, and whoever has to raise it should say in the commit what is bought with it.
"""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from redis import Redis
from werkzeug.test import TestResponse

from benchmarks.redis_commands import command_counts
from servease_appt.container import Container
from servease_appt.references.entities import Reference
from servease_appt.testing.processes import wait_until
from tests.performance.counting import function_calls, sql_statements
from tests.support.dataset import Asker, token

LIST = "/appointments/"
REFERENCES = 60
HEARTBEAT = {"get", "unlink"}
"""What the listener sends twice a second, whatever else happens."""

MOST_CALLS_OF_A_WARM_LOOKUP = 130
MOST_CALLS_OF_A_WARM_PAGE = 2350


@pytest.fixture
def quiet(redis_url: str) -> Iterator[Callable[[], None]]:
    """Waits until a whole heartbeat of the listener has passed in which nothing else was sent to Redis."""
    with Redis.from_url(redis_url) as client:
        last = command_counts(client)

        def calm() -> bool:
            nonlocal last
            before, last = last, command_counts(client)
            return last["get"] > before["get"] and _without_heartbeat(before) == _without_heartbeat(last)

        def wait() -> None:
            assert wait_until(calm, timeout_s=10, interval_s=0.6)

        yield wait


def _without_heartbeat(counts: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in counts.items() if name not in HEARTBEAT}


@pytest.fixture
def ask(app: Flask) -> Callable[[], TestResponse]:
    """Asks for the list as an admin."""
    admin = Asker(app, token(user_role="admin"))
    return lambda: admin.get(LIST)


@pytest.fixture
def sent(redis_url: str) -> Iterator[Callable[[], dict[str, int]]]:
    """Redis commands since it was last asked."""
    with Redis.from_url(redis_url) as client:
        before = command_counts(client)

        def since() -> dict[str, int]:
            nonlocal before
            now = command_counts(client)
            difference = {name: n - before.get(name, 0) for name, n in _without_heartbeat(now).items()}
            before = now
            return {name: n for name, n in difference.items() if n}

        yield since


def test_a_cold_page(
    ask: Callable[[], TestResponse], sent: Callable[[], dict[str, int]], names_asked: Callable[[], int]
) -> None:
    """One SQL statement, one MGET, one script for all leases, a few for the fills, and one call for each name."""
    sent()
    with sql_statements() as statements:
        answer = ask()

    assert answer.headers["X-Cache"] == f"l1=0 l2=0 upstream={REFERENCES} stale=0 unknown=0"
    assert len(statements) == 1
    assert names_asked() == REFERENCES
    commands = sent()
    # Fills are stored in batches, as many as are there when the last batch is done.
    assert commands["evalsha"] <= 1 + REFERENCES // 2


def test_a_page_from_the_second_tier(
    ask: Callable[[], TestResponse],
    sent: Callable[[], dict[str, int]],
    quiet: Callable[[], None],
    container: Container,
    names_asked: Callable[[], int],
) -> None:
    """One SQL statement and one MGET, for all 60 names together."""
    ask()
    quiet()
    container.lookups.cache.l1.flush()
    asked_before = names_asked()
    sent()
    with sql_statements() as statements:
        answer = ask()

    assert answer.headers["X-Cache"] == f"l1=0 l2={REFERENCES} upstream=0 stale=0 unknown=0"
    assert sent() == {"mget": 1}
    assert len(statements) == 1
    assert names_asked() == asked_before


def test_a_warm_page(
    ask: Callable[[], TestResponse],
    sent: Callable[[], dict[str, int]],
    quiet: Callable[[], None],
    names_asked: Callable[[], int],
) -> None:
    """One SQL statement, no Redis command, no call."""
    ask()
    quiet()
    asked_before = names_asked()
    sent()
    with sql_statements() as statements:
        answer = ask()

    assert answer.headers["X-Cache"] == f"l1={REFERENCES} l2=0 upstream=0 stale=0 unknown=0"
    assert sent() == {}
    assert len(statements) == 1
    assert names_asked() == asked_before


def test_the_work_of_a_warm_page(ask: Callable[[], TestResponse]) -> None:
    """The functions that one warm page calls, the test client's included."""
    for _ in range(3):
        ask()

    calls = function_calls(ask)
    assert calls <= MOST_CALLS_OF_A_WARM_PAGE


def test_the_work_of_a_warm_lookup(
    ask: Callable[[], TestResponse], container: Container, keys: list[str]
) -> None:
    """The functions that 60 keys from the first tier call: little more than one a key."""
    ask()
    cache = container.lookups.cache
    assert len(cache.l1.held(keys)) == REFERENCES

    def never(key: str, _timeout_s: float) -> Reference:
        raise AssertionError(key)

    cache.get_many(keys, never)
    calls = function_calls(lambda: cache.get_many(keys, never))
    assert calls <= MOST_CALLS_OF_A_WARM_LOOKUP
