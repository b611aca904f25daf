"""The fake listeners send what a real one sends, and the measurement of many listeners runs and adds up."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks.redis_commands import command_counts
from benchmarks.scale import document
from benchmarks.scale.crowd import Address, crowd
from benchmarks.scale.fits import fit
from benchmarks.scale.measurement import DATABASE, PREFIX, QUICK, measure
from benchmarks.scale.model import Scenario, hit_rates, popularity
from benchmarks.scale.operations import Writer
from benchmarks.scale.real_load import measure_real
from benchmarks.scale.validation import forecast
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
            assert wait_until(lambda: "hset" in command_counts(client), timeout_s=10)
            assert set(command_counts(client)) == real


def test_fake_listeners_receive_what_real_ones_receive(server: EmbeddedValkey) -> None:
    """A change causes one tracking message for each entity, and an invalidation one message, to each."""
    with (
        connect(server.url(DATABASE)) as client,
        crowd(Address(server.port, DATABASE, PREFIX), 3) as fakes,
    ):
        writer = Writer.of(client, PREFIX)
        for key in ENTITY_KEYS:
            writer.fill([key])
        writer.invalidate(ENTITY_KEYS)
        counts = fakes.wait_for(messages=3, tracking=3 * 6)
        assert (counts.messages, counts.tracking) == (3, 3 * 6)


def test_the_measurement_runs_and_adds_up() -> None:
    results = measure(QUICK, ("costs", "stock", "worker"))
    for cost in results["costs"]["fill"]:
        assert cost["tracking"] == cost["listeners"]
        assert cost["messages"] == 0
    for cost in results["costs"]["refresh"]:
        assert cost["mgets"] == cost["listeners"]
    for cost in results["costs"]["invalidation"]:
        assert cost["messages"] == cost["tracking"] == cost["listeners"]
    assert results["memory"]["value"] > 0
    for row in results["scans"]:
        # Four scans of the database, in steps of 1,000 keys: more steps while the server enlarges its table.
        passes, rest = divmod(row["scans"], 4)
        assert rest == 0
        assert 1 <= passes / (row["keys"] / 1000) < 2
    assert all(us > 0 for us in results["worker"].values())
    assert document.costs_table(results).count("\n") == 2 + len(results["costs"])


def test_real_caches_are_measured_beside_fake_listeners() -> None:
    """The measurement itself fails if an L1 keeps a key, or if a cache handles another number of messages."""
    (row,) = measure_real(QUICK.real)
    assert (row["listeners"], row["processes"], row["untrusted"]) == (9, 2, 0)
    assert row["threads"] == 1
    assert row["samples"] > 0
    assert row["invalidations_per_s"] > 0
    assert 0 < row["core"] < 1
    assert 0 < row["fake_core"] < 1
    assert row["late_ms"]["p50"] <= row["late_ms"]["p99"] <= row["late_ms"]["max"] < 2000


def test_a_fitted_line_weighs_points_by_their_size() -> None:
    assert fit([(n, 80 + 2.5 * n) for n in (1, 10, 1000)]).at(64) == pytest.approx(80 + 2.5 * 64)
    line = fit([(1, 110.0), (1, 90.0), (1000, 1100.0), (1000, 900.0)])
    assert line.at(1) == pytest.approx(98, rel=0.02)
    assert line.worst == pytest.approx(0.1, abs=0.02)


def test_the_document_has_the_tables_of_the_results() -> None:
    """Written by `make bench-scale` and by the simulation, not by hand."""
    text = document.DOCUMENT.read_text("utf-8")
    assert document.rendered(text) == text


def test_more_workers_have_no_other_hit_rate_in_l1() -> None:
    """Each has its own traffic; what they share is L2, which therefore answers more."""
    few, many = (Scenario(workers=n, entities=100_000) for n in (2, 200))
    (l1_of_few, l2_of_few), (l1_of_many, l2_of_many) = hit_rates(few), hit_rates(many)
    assert l1_of_many == pytest.approx(l1_of_few, abs=0.02)
    assert l1_of_few + l2_of_few < l1_of_many + l2_of_many < 1


@pytest.mark.parametrize("zipf", [0.0, 0.7, 1.0, 1.3])
def test_the_shares_of_all_keys_add_up(zipf: float) -> None:
    groups = list(popularity(1_000_000, zipf))
    assert sum(keys for keys, _ in groups) == pytest.approx(1_000_000)
    assert sum(keys * share for keys, share in groups) == pytest.approx(1)
    exact = 1 / sum(rank**-zipf for rank in range(1, 1_000_001))
    assert groups[0][1] == pytest.approx(exact, rel=0.06)


def test_the_model_agrees_with_real_caches() -> None:
    """What was measured last; the document has both sides."""
    rows = json.loads((document.RESULTS / "validation.json").read_text("utf-8"))["rows"]
    assert len(rows) == 5
    for row in rows:
        for tier in ("l1", "l2", "services"):
            assert row["model"][tier] == pytest.approx(row["real"][tier], abs=0.04)
        assert row["model"] == forecast(row)
