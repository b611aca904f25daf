"""Turn `results/*.json` into Markdown tables and charts."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import pictures
from benchmarks.results import DIRECTORY

Row = dict[str, Any]


def write(*, quick: bool) -> list[Path]:
    """Write `results.md` and the charts of the parts that were measured; return their paths."""
    suffix = "-quick" if quick else ""
    parts = load(quick=quick)
    text = [
        f"# Results{' of a quick run' if quick else ''}\n",
        "Medians with the middle half of the samples as spread. × is the ratio to the baseline of the same run:"
        " the median of the ratios of each round.\n",
        "## Targets\n",
        targets_table(quick=quick),
    ]
    for part in parts:
        about = part["machine"]
        text.append(f"\n## {part['part'].capitalize()}\n")
        text.append(
            f"{about['processor']}, {about['cores']} cores, Python {about['python']}, commit {about['commit']},"
            f" {about['at']}, load average {about['load_average'][0]} at the end.\n"
        )
        text += [f"* {note}" for note in part["notes"]]
        for case in dict.fromkeys(row["case"] for row in part["rows"]):
            text += ["", f"### {case}\n", table([row for row in part["rows"] if row["case"] == case])]
    path = DIRECTORY / f"results{suffix}.md"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return [path, *pictures.draw(parts, DIRECTORY, suffix)]


def load(*, quick: bool) -> list[dict[str, Any]]:
    """Return the parts that were measured, in the order of their names."""
    files = sorted(DIRECTORY.glob("*.json"))
    return [json.loads(file.read_text("utf-8")) for file in files if file.stem.endswith("-quick") is quick]


def targets_table(*, quick: bool) -> str:
    """Return the aims and results as Markdown."""
    lines = ["| target | measured | aim | |", "| --- | --- | --- | --- |"]
    for part in load(quick=quick):
        for target in part["targets"]:
            sign = "≥" if target["at_least"] else "≤"
            verdict = "reached" if target["reached"] else "**not reached**"
            unit = f" {target['unit']}" if target["unit"] else ""
            lines.append(
                f"| {target['target']} | {number(target['value'])}{unit} |"
                f" {sign} {target['limit']:g}{unit} | {verdict} |"
            )
    return "\n".join(lines)


def table(rows: Iterable[Row]) -> str:
    """Return one case as a Markdown table, the best first."""
    lines = ["| | median | spread | × | |", "| --- | --- | --- | --- | --- |"]
    for row in pictures.best_first(rows):
        ratio = row.get("ratio")
        times = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else ""
        name = f"**{row['contender']}**" if row.get("ours") else row["contender"]
        lines.append(
            f"| {name} | {number(row['median'])} {row['unit']} | {number(row['low'])} to {number(row['high'])} |"
            f" {times} | {besides(row)} |"
        )
    return "\n".join(lines)


def besides(row: Row) -> str:
    """Return the further values of a row: slowest answers, processor time, loads, Redis commands."""
    facts = [
        f"p99 {number(row['p99_ms'])} ms" if "p99_ms" in row else "",
        f"{number(row['cpu_ms'])} ms CPU a page" if "cpu_ms" in row else "",
        f"{row['loads']} load" if "loads" in row else "",
        commands(row.get("redis_commands", {})),
    ]
    return ", ".join(fact for fact in facts if fact)


def commands(counts: dict[str, float]) -> str:
    """Return the Redis commands of one read, such as `1 MGET, 60 SET`; those of the heartbeat round to 0."""
    return ", ".join(f"{round(n)} {name.upper()}" for name, n in counts.items() if round(n))


def number(value: float) -> str:
    """Format a number with three significant digits, and thousands with a comma."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
