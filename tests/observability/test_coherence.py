"""The coherence check: what it counts, what it does not, and that it costs no request anything."""

import itertools
from collections.abc import Iterator
from functools import partial

import pytest
import redis
from flask import Flask

from servease_appt.app import create_app
from servease_appt.cache import Mode
from servease_appt.cache.companion import NoCompanion
from servease_appt.cache.l1 import Entry
from servease_appt.cache.l2.protocol import Write
from servease_appt.container import EXTENSION, Container
from servease_appt.observability.coherence import (
    COMPARE_AGAIN_AFTER_S,
    L1_L2,
    L2_SOURCE,
    SOURCE_EVERY_S,
    Coherence,
)
from servease_appt.references import entities
from servease_appt.references.enrichment import Lookups
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.dataset import new_id, token
from tests.support.served import Served, settings

NO_DATABASE = "postgresql+psycopg2://127.0.0.1:1/none"


class Checked:
    """A worker with one customer in both tiers, and a coherence check that is stepped by hand."""

    def __init__(self, app: Flask, fake_services: FakeServices) -> None:
        self.container: Container = app.extensions[EXTENSION]
        self.lookups: Lookups = self.container.lookups
        self.fake_services = fake_services
        self.cache = self.lookups.cache
        self.cache.attach(NoCompanion())  # its own check would count as well
        self.id = new_id()
        self.key = f"customer_{self.id}"
        self.put_upstream("Alice Ant")
        self._put_in_l2("Alice Ant")
        self.cache.start()
        assert wait_until(lambda: self.cache.mode is Mode.BOTH, timeout_s=30)
        assert self.lookups.get("customer", self.id, token()) is not None
        assert wait_until(lambda: bool(self.cache.l1.held((self.key,))), timeout_s=30)
        self.check = Coherence(self.lookups, self.container.metrics)
        self.now_s = 1000.0

    def put_upstream(self, name: str) -> None:
        """Let the customer service know the customer by this name."""
        self.fake_services.customers.put({"id": self.id, "full_name": name, "email": "a@example.com"})

    def _put_in_l2(self, name: str) -> None:
        """Before anybody listens: news of it would have L1 compared, and cleared of what a test puts there."""
        codec = self.cache.codecs.of(self.key)
        stored = codec.encode(entities.customer(id=self.id, full_name=name, email="a@example.com"))
        self.cache.l2.write([Write(self.key, stored, 300_000)], "test")

    def put_in_l1(self, name: str) -> None:
        """What no message and no news of the server would ever correct."""
        now_s = self.cache._clock()
        wrong = entities.customer(id=self.id, full_name=name, email="a@example.com")
        self.cache.l1.put_many([(self.key, Entry(wrong, now_s, now_s + 60))], self.cache.l1.epoch())

    def step(self, after_s: float = 0.0) -> None:
        """Let time pass and the check look."""
        self.now_s += after_s
        self.check.step(self.now_s)

    def counted(self, tiers: str) -> tuple[int, int]:
        """Checks and mismatches so far."""
        totals = self.container.metrics.totals()
        checks, mismatches = (
            totals.by(f"servease_cache_coherence_{what}_total", "tiers")[tiers,]
            for what in ("checks", "mismatches")
        )
        return int(checks), int(mismatches)


@pytest.fixture(params=["service"])
def checked(request: pytest.FixtureRequest, redis_url: str, fake_services: FakeServices) -> Iterator[Checked]:
    """With `UPSTREAM_AUTH=service`, unless the test says otherwise."""
    given = settings(NO_DATABASE, redis_url, fake_services, UPSTREAM_AUTH=request.param)
    app = create_app(Settings.from_mapping(given))
    yield Checked(app, fake_services)
    app.extensions[EXTENSION].close()


def test_equal_values_are_counted_as_checked(checked: Checked) -> None:
    """A value that is the same in L1 and L2 is one check and no mismatch."""
    checked.step()

    assert checked.counted(L1_L2) == (1, 0)


def test_a_difference_counts_at_the_second_look(checked: Checked) -> None:
    """L1 holds another value than L2: nothing is counted until it has been seen twice, a second apart."""
    checked.put_in_l1("Somebody Else")
    checked.step()
    first = checked.counted(L1_L2)
    checked.step(COMPARE_AGAIN_AFTER_S / 2)
    too_early = checked.counted(L1_L2)
    checked.step(COMPARE_AGAIN_AFTER_S / 2)

    assert (first, too_early) == ((0, 0), (0, 0))
    assert checked.counted(L1_L2) == (1, 1)


def test_a_difference_that_goes_away_is_none(checked: Checked) -> None:
    """An invalidation that was on its way at the first look makes no mismatch."""
    checked.put_in_l1("Somebody Else")
    checked.step()
    checked.put_in_l1("Alice Ant")
    checked.step(COMPARE_AGAIN_AFTER_S)

    checks, mismatches = checked.counted(L1_L2)
    assert (checks > 0, mismatches) == (True, 0)


def test_a_value_that_changes_between_the_looks_is_no_mismatch(checked: Checked) -> None:
    """L1 differs at both looks, but by another value: something is being written, nothing has stayed wrong."""
    checked.put_in_l1("Somebody Else")
    checked.step()
    checked.put_in_l1("Quite Another")
    checked.step(COMPARE_AGAIN_AFTER_S)

    assert checked.counted(L1_L2)[1] == 0


def test_a_tier_that_has_forgotten_is_not_compared(checked: Checked, redis_url: str) -> None:
    """A key that only L1 or only L2 has contradicts nothing, and counts as nothing."""
    checked.lookups.invalidate("customer", [checked.id])
    checked.put_in_l1("Alice Ant")
    checked.step()
    checked.step(COMPARE_AGAIN_AFTER_S)

    assert checked.counted(L1_L2) == (0, 0)


def test_an_unannounced_change_is_found(checked: Checked) -> None:
    """The service has another name and told nobody: found in L2, in this service's own name, at two looks."""
    checked.step()
    checked.step(SOURCE_EVERY_S)
    same = checked.counted(L2_SOURCE)
    calls = checked.fake_services.total_calls()
    checked.put_upstream("Alice Newname")
    checked.step(SOURCE_EVERY_S)
    first = checked.counted(L2_SOURCE)
    checked.step(COMPARE_AGAIN_AFTER_S)

    assert same == first == (1, 0)
    assert checked.counted(L2_SOURCE) == (2, 1)
    assert checked.fake_services.total_calls() == calls + 2


@pytest.mark.parametrize("checked", ["caller"], indirect=True)
def test_services_are_not_asked_without_a_token_of_our_own(checked: Checked) -> None:
    """With `UPSTREAM_AUTH=caller` L2 is never compared with its source: no caller's token is used for it."""
    calls = checked.fake_services.total_calls()
    for _ in range(5):
        checked.step(SOURCE_EVERY_S)

    assert checked.counted(L2_SOURCE) == (0, 0)
    assert checked.fake_services.total_calls() == calls


def test_nothing_is_counted_while_a_service_is_away(checked: Checked) -> None:
    """A failed call says nothing about the cached value."""
    checked.fake_services.customers.rule(status=503)
    for after_s in itertools.repeat(SOURCE_EVERY_S, 3):
        checked.step(after_s)

    assert checked.counted(L2_SOURCE) == (0, 0)


def test_nothing_is_counted_while_redis_is_away(
    own_valkey: EmbeddedValkey, fake_services: FakeServices
) -> None:
    """Without L2 there is nothing to compare with; the check raises nothing and goes on when it is back."""
    app = create_app(Settings.from_mapping(settings(NO_DATABASE, own_valkey.url(1), fake_services)))
    checked = Checked(app, fake_services)
    try:
        own_valkey.kill()
        assert wait_until(lambda: checked.cache.mode is not Mode.BOTH, timeout_s=30)
        checked.put_in_l1("Somebody Else")
        for after_s in itertools.repeat(COMPARE_AGAIN_AFTER_S, 5):
            checked.step(after_s)
        away = checked.counted(L1_L2)
        own_valkey.restart()
        assert wait_until(lambda: checked.cache.mode is Mode.BOTH, timeout_s=30)
        assert wait_until(partial(_loaded_again, checked), timeout_s=30)
        checked.step(COMPARE_AGAIN_AFTER_S)
    finally:
        app.extensions[EXTENSION].close()

    assert away == (0, 0)
    assert checked.counted(L1_L2) == (1, 0)


def test_an_l1_that_is_not_trusted_is_not_compared(checked: Checked) -> None:
    """While the channel is not confirmed L1 serves next to nothing: what it still holds is no mismatch."""
    listener = checked.cache._process.listener
    assert listener is not None
    listener.stop()
    assert wait_until(lambda: checked.cache.mode is Mode.L2_ONLY, timeout_s=30)
    checked.put_in_l1("Somebody Else")
    for after_s in itertools.repeat(COMPARE_AGAIN_AFTER_S, 3):
        checked.step(after_s)

    assert checked.counted(L1_L2) == (0, 0)


def _loaded_again(checked: Checked) -> bool:
    checked.lookups.get("customer", checked.id, token())
    return bool(checked.cache.l1.held((checked.key,))) and bool(checked.cache.l2.read((checked.key,))[0][0])


def test_the_served_application_checks_itself(served: Served, redis_url: str) -> None:
    """On the heartbeat of each worker, without a request, and it finds nothing wrong."""
    served.dataset.appointment()
    served.get("/api/v1/appointments/")
    name = 'servease_cache_coherence_checks_total{tiers="l1_l2"}'
    before = served.metrics()[name]

    assert wait_until(lambda: served.metrics()[name] > before, timeout_s=30, interval_s=0.1)
    assert served.metrics()['servease_cache_coherence_mismatches_total{tiers="l1_l2"}'] == 0


def test_the_check_loads_nothing_into_the_cache(checked: Checked, redis_url: str) -> None:
    """It looks past the cache and leaves everything as it was."""
    with redis.Redis.from_url(redis_url) as client:
        before = {name: client.get(name) for name in client.keys("appointment_service:customer_*")}
        held = checked.cache.l1.held((checked.key,))
        for _ in range(3):
            checked.step(SOURCE_EVERY_S)

        assert {name: client.get(name) for name in client.keys("appointment_service:customer_*")} == before
        assert checked.cache.l1.held((checked.key,)) == held
