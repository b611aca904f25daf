"""The L2 of a single server and that in memory do what `L2Contract` says; that of a cluster: `test_cluster.py`."""

from collections.abc import Iterator

import pytest

from servease_appt.cache import connect
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2 import make_l2
from servease_appt.cache.l2.protocol import L2
from servease_appt.cache.testing import HandClock, L2Contract, MemoryServer
from tests.cache.testbed import PREFIX, patient_breaker


class TestSingleServer(L2Contract):
    """The scripts on one server."""

    @pytest.fixture
    def l2(self, redis_url: str) -> Iterator[L2]:
        """An empty one."""
        with connect(redis_url, timeout_s=5.0) as client:
            yield make_l2(client, KeySpace(PREFIX), patient_breaker(), None)


class TestMemory(L2Contract):
    """Python in place of the scripts."""

    @pytest.fixture
    def l2(self) -> L2:
        """An empty one."""
        self.clock = HandClock()
        return make_l2(MemoryServer(self.clock), KeySpace(PREFIX), patient_breaker(), None)

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.move(seconds)
