"""Every error of redis-py becomes one of the cache's own, and the breaker hears of it."""

import inspect
import socket
from collections.abc import Iterator

import pytest
import redis
from redis import exceptions

from servease_appt.cache import connect
from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.errors import L2RefusedWrite, L2Unavailable
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.single_server import SingleServerL2
from tests.cache.testbed import PREFIX

ERRORS = [
    error for _, error in inspect.getmembers(exceptions, inspect.isclass) if issubclass(error, Exception)
]


@pytest.fixture
def l2(redis_url: str) -> Iterator[SingleServerL2]:
    """L2's operations on a real server."""
    with connect(redis_url) as client:
        yield SingleServerL2(client, KeySpace(PREFIX), Breaker(threshold=1, cool_down_s=60.0))


def make(error: type[Exception]) -> Exception:
    """An instance, whatever its constructor wants."""
    for arguments in (("text",), ("1 127.0.0.1:1",), ()):
        try:
            return error(*arguments)
        except (TypeError, ValueError, IndexError):
            continue
    raise AssertionError(f"don't know how to make a {error.__name__}")


@pytest.mark.parametrize("error", [*ERRORS, OSError, socket.gaierror, ValueError, IndexError])
def test_every_error_is_mapped(l2: SingleServerL2, error: type[Exception]) -> None:
    """An answer that refuses leaves the breaker closed; everything else means that L2 can't be had."""
    raised = make(error)

    def fail() -> None:
        raise raised

    refusal = isinstance(raised, redis.ResponseError)
    with pytest.raises(L2RefusedWrite if refusal else L2Unavailable) as mapped:
        l2._run("read", fail)
    assert mapped.value.__cause__ is raised
    assert (type(mapped.value) is L2RefusedWrite) is refusal
    assert l2.breaker.state is (BreakerState.CLOSED if refusal else BreakerState.OPEN)


def test_an_open_breaker_asks_nobody(l2: SingleServerL2) -> None:
    """While it is open a read fails at once; an invalidation is tried all the same, and closes it."""
    l2.breaker.failed()
    with pytest.raises(L2Unavailable, match="breaker is open"):
        l2.read(["customer_1"])
    assert l2.invalidate(["customer_1"], "me").sequence > 0
    assert l2.read(["customer_1"])[0] == [None]


def test_a_script_that_the_server_has_forgotten(l2: SingleServerL2) -> None:
    """SCRIPT FLUSH, or a new server: the script is sent again, and nobody notices."""
    first, _ = l2.invalidate(["customer_1"], "me")
    l2.client.script_flush()
    assert l2.invalidate(["customer_1"], "me").sequence == first + 1
