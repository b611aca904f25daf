"""`python -m benchmarks.scale.simulation`: compute the tables and charts of `docs/scaling.md`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scale import charts, document
from benchmarks.scale.forecast_tables import PER_HOST, steady
from benchmarks.scale.model import Costs, Scenario, delay_ms, solve

FILLS, INVALIDATIONS = 500, 50
CURVE_WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)


def main() -> int:
    """Write the charts and the document."""
    for path in [*write_charts(), *document.write()]:
        print(path)
    return 0


def write_charts() -> list[Path]:
    """Draw the charts; return their paths."""
    costs = Costs.of(json.loads((document.RESULTS / "measured.json").read_text("utf-8")))
    kinds: Sequence[tuple[str, bool, int]] = (
        ("tracking on (default)", True, 1),
        (f"tracking on, one listener for {PER_HOST}", True, PER_HOST),
        ("tracking off", False, 1),
    )
    core = {
        name: [
            (
                float(n),
                steady(
                    n,
                    costs=costs,
                    fills=FILLS,
                    invalidations=INVALIDATIONS,
                    tracking=tracking,
                    per_listener=per,
                )
                * 100,
            )
            for n in CURVE_WORKERS
        ]
        for name, tracking, per in kinds
    }
    decades = [10 ** (exponent / 2) for exponent in range(8, 17)]
    solved = [solve(Scenario(workers=50, entities=round(n)), costs) for n in decades]
    hits = {
        "L1": [(n, outcome.l1_hits * 100) for n, outcome in zip(decades, solved, strict=True)],
        "L1 and L2": [
            (n, (outcome.l1_hits + outcome.l2_hits) * 100) for n, outcome in zip(decades, solved, strict=True)
        ],
    }
    return [
        charts.draw(
            document.RESULTS / "core.svg",
            charts.Chart(
                title="Redis' core by the number of workers",
                about="500 fills and 50 invalidations a second; computed from measured costs",
                x="workers",
                y="% of one core",
                log_y=True,
                limit=50,
            ),
            core,
        ),
        charts.draw(
            document.RESULTS / "hits.svg",
            charts.Chart(
                title="Reads answered by the tiers, by the number of entities",
                about="50 workers, 10 pages of 60 names a second each, Zipf 1.0; computed",
                x="entities",
                y="% of reads",
            ),
            hits,
        ),
        charts.draw(
            document.RESULTS / "delays.svg",
            charts.Chart(
                title="From an invalidation to the last worker, 99th percentile",
                about="500 fills and 50 invalidations a second; computed, without network and worker",
                x="workers",
                y="ms",
                log_y=True,
                limit=50,
            ),
            {name: _delays(costs, tracking=tracking) for name, tracking, per in kinds if per == 1},
        ),
    ]


def _delays(costs: Costs, *, tracking: bool) -> list[tuple[float, float]]:
    """Return the delays by workers, as far as Redis has time for them."""
    points = []
    for workers in CURVE_WORKERS:
        core = steady(workers, costs=costs, fills=FILLS, invalidations=INVALIDATIONS, tracking=tracking)
        if core < 1:
            scenario = Scenario(workers, entities=1, invalidations=INVALIDATIONS, tracking=tracking)
            points.append((float(workers), delay_ms(scenario, costs, FILLS, core)))
    return points


if __name__ == "__main__":
    sys.exit(main())
