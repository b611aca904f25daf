"""The fake listeners send what a real one sends, and the measurement of many listeners runs and adds up."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks.redis_commands import command_counts
from benchmarks.scale import document
from benchmarks.scale.crowd import Address, crowd
from benchmarks.scale.fits import fit
from benchmarks.scale.measurement import DATABASE, PREFIX, QUICK, measure
from benchmarks.scale.operations import Writer
from servease_appt.cache import Mode, TwoTierCache, connect
from servease_appt.references.entities import CODECS
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

ENTITY_KEYS = ["customer_1", "vehicle_1", "employee_1"]


@pytest.fixture
def server() -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey() as running:
        yield running


def test_a_fake_listener_sends_the_commands_of_a_real_one(server: EmbeddedValkey) -> None:
    with connect(server.url(DATABASE)) as client:
        client.config_resetstat()
        with closing(TwoTierCache(client, CODECS, prefix=PREFIX)) as cache:
            cache.start()
            assert wait_until(lambda: cache.mode is Mode.BOTH, timeout_s=10)
            assert wait_until(lambda: "hset" in command_counts(client), timeout_s=10)
            real = set(command_counts(client))
        client.config_resetstat()
        with crowd(Address(server.port, DATABASE, PREFIX), 1):
            writer = Writer.of(client, PREFIX)
            writer.wait_for_listeners(1)
            assert wait_until(lambda: "hset" in command_counts(client), timeout_s=10)
            assert set(command_counts(client)) - {"publish"} == real


def test_fake_listeners_receive_what_real_ones_receive(server: EmbeddedValkey) -> None:
    """A change causes one tracking message for each entity, and an invalidation one message, to each."""
    with (
        connect(server.url(DATABASE)) as client,
        crowd(Address(server.port, DATABASE, PREFIX), 3) as fakes,
    ):
        writer = Writer.of(client, PREFIX)
        writer.wait_for_listeners(3)
        for key in ENTITY_KEYS:
            writer.fill([key])
        writer.invalidate(ENTITY_KEYS)
        counts = fakes.wait_for(messages=3 + 3, tracking=3 * 6)
        assert (counts.messages, counts.tracking) == (3 + 3, 3 * 6)  # with the message that looked for them


def test_the_measurement_runs_and_adds_up() -> None:
    results = measure(QUICK)
    for cost in results["costs"]["fill"]:
        assert cost["tracking"] == cost["listeners"]
        assert cost["messages"] == 0
    for cost in results["costs"]["refresh"]:
        assert cost["mgets"] == cost["listeners"]
    for cost in results["costs"]["invalidation"]:
        assert cost["messages"] == cost["tracking"] == cost["listeners"]
    assert results["memory"]["value"] > 0
    assert [row["scans"] for row in results["scans"]] == [4 * size // 1000 for size in QUICK.pattern_keys]
    assert document.measured_tables(results).count("fill of 60 keys") == 3


def test_a_fitted_line_weighs_points_by_their_size() -> None:
    assert fit([(n, 80 + 2.5 * n) for n in (1, 10, 1000)]).at(64) == pytest.approx(80 + 2.5 * 64)
    line = fit([(1, 110.0), (1, 90.0), (1000, 1100.0), (1000, 900.0)])
    assert line.at(1) == pytest.approx(98, rel=0.02)
    assert line.worst == pytest.approx(0.1, abs=0.02)
