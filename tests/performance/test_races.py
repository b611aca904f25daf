"""The comparison of caches under races: its harness sees what is stale, and its table is what was measured."""

import json
from pathlib import Path

import pytest
import redis

from benchmarks.races import scenarios, table
from benchmarks.races.workers import PREFIX, REDIS_S, TWO_TIER, Load, TwoTier, Worker

ROOT = Path(__file__).resolve().parents[2]


class CacheAside:
    """The naive cache: `GET`, else load and `SET`."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, decode_responses=True)

    def read(self, key: str, load: Load) -> str | None:
        """Return the stored value, or load and store one."""
        value = self._client.get(f"{PREFIX}:{key}")
        if value is None:
            value = load()
            self._client.set(f"{PREFIX}:{key}", value, ex=REDIS_S)
        return str(value)

    def invalidate(self, key: str) -> None:
        """Delete the value."""
        self._client.delete(f"{PREFIX}:{key}")

    def close(self) -> None:
        """Close the client."""
        self._client.close()


@pytest.mark.parametrize(("worker", "stale"), [(TwoTier, False), (CacheAside, True)])
def test_the_harness_tells_a_late_fill_from_none(
    worker: type[Worker], stale: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late fill (R2) leaves the naive cache stale for as long as it is watched, and this one not at all."""
    monkeypatch.setattr(scenarios, "LIMIT_S", 1.0)
    outcome = scenarios.run("R2", worker)
    assert (outcome.stale_s > 0.5) == stale
    assert outcome.failing_s == 0


def test_the_table_in_the_document_is_what_was_measured() -> None:
    """It has the figures of the results, in which this cache is new in each race but for the lost message."""
    results = json.loads((ROOT / "benchmarks" / "races" / "results.json").read_text("utf-8"))
    document = (ROOT / "docs" / "races.md").read_text("utf-8")
    assert table.put_into(document, results) == document
    ours = results["outcomes"][TWO_TIER]
    assert set(ours) == set(scenarios.SCENARIOS)
    assert {race: stale_s for race, (stale_s, _) in ours.items() if stale_s > 0.05}.keys() <= {"R6, lost"}
    assert ours["R6, lost"][0] <= 2.0
