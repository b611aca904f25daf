"""The tables of `docs/scaling.md`: rendered from the results, and written between markers in the document."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import number
from benchmarks.results import DIRECTORY
from benchmarks.scale import forecast_tables
from benchmarks.scale.markdown import table
from benchmarks.scale.model import Costs

RESULTS = DIRECTORY / "scale"
DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"
STORM_AIM = 1.5
Results = Mapping[str, Any]


def write() -> list[Path]:
    """Replace every marked section of the document; return the paths of what was written."""
    DOCUMENT.write_text(rendered(DOCUMENT.read_text("utf-8")), encoding="utf-8")
    return [DOCUMENT]


def rendered(text: str) -> str:
    """Return the document with its marked sections as the results now have them."""
    for name, content in sections().items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, found, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found and found_end):
            raise LookupError(f"the document has no section {name}")
        text = f"{before}{begin}\n{content}\n{end}{after}"
    return text


def sections() -> dict[str, str]:
    """Return every table by the name of its section."""
    measured = json.loads((RESULTS / "measured.json").read_text("utf-8"))
    validated = json.loads((RESULTS / "validation.json").read_text("utf-8"))
    costs = Costs.of(measured)
    return {
        "setups": forecast_tables.setups(costs),
        "machine": machine_lines(measured),
        "costs": costs_table(measured),
        "deliveries": deliveries_table(measured),
        "stock": stock_tables(measured),
        "alternatives": figures_table(measured["alternatives"], "µs of one core of Redis"),
        "worker": figures_table(measured["worker"], "µs of one core of the worker, for one message"),
        "loads": loads_table(measured),
        "real caches": real_table(measured),
        "footprint": footprint_table(measured),
        "validation": validation_table(validated),
        "capacity": forecast_tables.capacity(costs),
        "sizes": forecast_tables.sizes(costs),
        "storm pages": storm_table(measured),
        "storms": forecast_tables.storms(costs),
    }


def measured_tables(results: Results) -> str:
    """Return all tables of measured figures."""
    tables = [costs_table(results), deliveries_table(results), stock_tables(results)]
    tables += [figures_table(results[name], name) for name in ("alternatives", "worker")]
    tables += [loads_table(results), real_table(results), footprint_table(results)]
    return "\n\n".join(tables)


def machine_lines(results: Results) -> str:
    """Return where and when the figures were measured, and how busy the machine was with other work before."""
    about = results["machine"]
    rows = [
        [part, one["at"], "not taken" if one["other_work"] is None else f"{one['other_work']:.0%}"]
        for part, one in results["measured"].items()
    ]
    where = f"{about['processor']}, {about['cores']} cores, Python {about['python']}."
    return f"{where}\n\n{table(['part', 'measured at', 'cores used by other work before'], rows)}"


def figures_table(figures: Mapping[str, float], unit: str) -> str:
    """Return single figures."""
    return table(["", unit], [[name, number(value)] for name, value in figures.items()])


def validation_table(results: Results) -> str:
    """Return the shares of reads that each tier answered, real and according to the model."""
    rows = []
    for row in results["rows"]:
        about = (
            f"{row['name']}: {row['workers']} workers, {row['entities']:,} keys, Zipf {row['zipf']:g}, TTLs"
            f" {row['l1_ttl_s']:g} and {row['l2_ttl_s']:g} s"
        )
        real, model = row["real"], row["model"]
        pairs = [f"{real[tier]:.1%} / {model[tier]:.1%}" for tier in ("l1", "l2", "services")]
        rows.append([about, number(row["reads"]), number(row["invalidations"]), *pairs])
    return table(["", "reads/s", "invalidations/s", "L1: real / model", "L2", "services"], rows)


def costs_table(results: Results) -> str:
    """Return the server's processor time of each operation by number of listeners, with the fitted lines."""
    sizes = [row["listeners"] for row in results["heartbeats"]]
    rows = [
        [name, *(number(cost["cpu_us"]) for cost in costs), formula(results["fits"][name])]
        for name, costs in results["costs"].items()
    ]
    beats = [number(row["cpu_us_per_s"]) for row in results["heartbeats"]]
    rows.append(["heartbeats of a second", *beats, formula(results["fits"]["heartbeats of a second"])])
    return table(["µs of one core", *(f"{size:,}" for size in sizes), "fitted, N listeners"], rows)


def formula(line: Mapping[str, float]) -> str:
    """Return a fitted line as text."""
    if not line["b_us"]:
        return f"{number(line['a_us'])} (± {line['worst']:.0%})"
    return f"{number(line['a_us'])} + {number(line['b_us'])} N (± {line['worst']:.0%})"


def deliveries_table(results: Results) -> str:
    """Return what one operation sends to the listeners, and the commands that it causes."""
    rows = []
    for name, costs in results["costs"].items():
        for cost in (costs[0], costs[-1]) if len(costs) > 1 else costs:
            size = cost["listeners"]
            commands = ", ".join(
                f"{number(n)} {command.upper()}"
                for command, n in cost["commands"].items()
                if command not in ("evalsha", "script|load")
            )
            rows.append(
                [
                    name,
                    f"{size:,}",
                    number(cost["messages"] / size),
                    number(cost["tracking"] / size),
                    number(cost["mgets"] / size),
                    number(cost["bytes_received"] / size),
                    commands,
                ]
            )
    heads = ["", "N", "messages/N", "tracking/N", "MGETs/N", "bytes/N", "commands, those of scripts included"]
    return table(heads, rows)


def stock_tables(results: Results) -> str:
    """Return Redis' memory for one entity, and the scans of one pattern."""
    memory = results["memory"]
    first = table(
        ["bytes of Redis memory for one entity", ""],
        [
            ["value", number(memory["value"])],
            ["stale copy", number(memory["copy"])],
            ["mark of an absence", number(memory["absent"])],
        ],
    )
    second = table(
        ["keys", "workers", "SCANs", "processor time of Redis", "until done"],
        [
            [
                f"{row['keys']:,}",
                str(row["workers"]),
                f"{row['scans']:,}",
                f"{row['cpu_s']:.3f} s",
                f"{row['seconds']:.2f} s",
            ]
            for row in results["scans"]
        ],
    )
    return f"{first}\n\n{second}"


def storm_table(results: Results) -> str:
    """Return what pages of a worker take during a storm, and how many times that is of those without one."""
    rows = [
        [
            f"{row['rate']:,}",
            number(row["keys_per_message"]),
            "one" if row["same"] else "different",
            f"{row['redis_core']:.1%}",
            f"{row['worker_core']:.1%} ({row['calm_worker_core']:.1%})",
            f"{row['p50_ms']:.2f} ms ({row['calm_p50_ms']:.2f})",
            f"{row['p99_ms']:.2f} ms ({row['calm_p99_ms']:.2f})",
            _spread(row["p99_ratio"]),
            f"{row['ran_p99_ms']:.2f} ms ({row['calm_ran_p99_ms']:.2f})",
            _spread(row["ran_p99_ratio"]),
        ]
        for row in results["storms"]
    ]
    heads = ["invalidations/s", "keys a message", "keys", "Redis' core", "worker's core (without)"]
    heads += ["page, p50 (without)", "page, p99 (without)", "ratio, median (least to most)"]
    heads += ["p99 less waits for a core (without)", "ratio, median (least to most)"]
    medians = [row["ran_p99_ratio"]["median"] for row in results["storms"]]
    reached = sum(ratio <= STORM_AIM for ratio in medians)
    verdict = (
        f"The aim is a last column of at most {STORM_AIM}: reached in {reached} of {len(medians)} storms."
    )
    return f"{table(heads, rows)}\n\n{verdict}"


def _spread(ratio: Mapping[str, float]) -> str:
    return "{median:.2f} ({least:.2f} to {most:.2f})".format(**ratio)


def loads_table(results: Results) -> str:
    """Return what a steady load costs."""
    return table(
        [
            "listeners",
            "tracking",
            "fills/s",
            "invalidations/s",
            "share of a core",
            "messages/s",
            "MB/s",
            "message received after, p50",
            "p99",
        ],
        [
            [
                f"{row['listeners']:,}",
                "on" if row["tracking"] else "off",
                number(row["fills_per_s"]),
                number(row["invalidations_per_s"]),
                f"{row['core']:.1%}",
                number(row["deliveries_per_s"]),
                f"{row['bytes_per_s'] / 1e6:.2f}",
                f"{row['delay_p50_ms']:.1f} ms",
                f"{row['delay_p99_ms']:.1f} ms",
            ]
            for row in results["loads"]
        ],
    )


def real_table(results: Results) -> str:
    """Return what a steady load costs with real caches, beside as many fake listeners at the same rate."""
    heads = [
        "caches",
        "tracking",
        "fills/s",
        "invalidations/s",
        "machine",
        "Redis' core",
        "with fakes, ratio",
    ]
    heads += ["heartbeats/s", "not trusted", "stale, all: p50", "p99", "max", "last eight: p50", "p99", "max"]
    return table(
        heads,
        [
            [
                f"{row['listeners']:,}",
                "on" if row["tracking"] else "off",
                number(row["fills_per_s"]),
                number(row["invalidations_per_s"]),
                f"{row['machine']:.0%}",
                f"{row['core']:.1%}",
                f"{row['fake_core']:.1%}, {row['core'] / row['fake_core']:.1f}",
                number(row["beats_per_s"]),
                f"{row['untrusted']} of {row['samples']:,}",
                *(f"{ms:.1f} ms" for ms in (*row["late_ms"].values(), *row["late_of_last_ms"].values())),
            ]
            for row in results["real"]
        ],
    )


def footprint_table(results: Results) -> str:
    """Return what a cache without a load takes."""
    heads = ["caches", "processes", "threads", "descriptors", "resident kB", "µs of its core a second"]
    heads += ["µs of Redis' core a second"]
    return table(
        heads,
        [
            [
                f"{row['listeners']:,}",
                str(row["processes"]),
                number(row["threads"]),
                number(row["descriptors"]),
                number(row["resident_kb"]),
                number(row["idle_us_per_s"]),
                number(row["idle_core"] * 1e6 / row["listeners"]),
            ]
            for row in results["real"]
            if not row["tracking"]
        ],
    )
