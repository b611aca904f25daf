"""What an outage of Redis costs readers: one short timeout once, and nothing until it is back."""

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.testing.fault_proxy import Proxy
from tests.cache.conftest import MakeCache
from tests.cache.test_races import V1, K
from tests.cache.testbed import Source, eventually, listening


def test_no_caller_is_let_in_where_somebody_else_tries() -> None:
    """The cool-down is over, and the breaker stays open until a success is reported."""
    now_s = 0.0
    breaker = Breaker(threshold=1, cool_down_s=2.0, clock=lambda: now_s)
    breaker.callers_try = False
    breaker.failed()
    now_s = 10.0
    assert not breaker.allows()
    assert breaker.state is BreakerState.OPEN
    breaker.succeeded()
    assert breaker.allows()


def test_only_the_first_reader_of_an_outage_waits(
    make_cache: MakeCache, source: Source, proxy: Proxy
) -> None:
    """Redis hangs on both links. The first read waits for its timeout; later ones don't, although the cool-down is
    over at once here. When Redis answers again, L2 is used again without a reader's trial."""
    cache = listening(make_cache(url=proxy.url()))
    cache.breaker._cool_down_s = 0.0
    source.put(K)
    source.put("customer_2")
    proxy.data.black_hole()
    proxy.pubsub.black_hole()
    assert cache.get_many([K], source.load).cache_s > 0.1
    for key in ("customer_2", "customer_3", "customer_4"):
        assert cache.get_many([key], source.load).cache_s < 0.05
    proxy.data.heal()
    proxy.pubsub.heal()
    eventually(lambda: cache.breaker.state is BreakerState.CLOSED, "the end of the outage")
    assert cache.get(K, source.load) == V1
