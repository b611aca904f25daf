"""The outcomes of the races as a table in Markdown."""

from importlib.metadata import version
from typing import Any

from benchmarks.races.scenarios import LIMIT_S, SCENARIOS
from benchmarks.races.workers import TWO_TIER

BEGIN, END = "<!-- begin of what make races writes -->", "<!-- end of what make races writes -->"
_FRESH_S = 0.05
"""Shorter than a message between workers may take on a busy machine."""


def version_of(cache: str) -> str:
    """Return the version of the package that was measured; empty for this one."""
    return "" if cache == TWO_TIER else version(cache if cache != "redis-py" else "redis")


def cell(stale_s: float, failing_s: float) -> str:
    """Return one outcome in a few words."""
    if stale_s >= LIMIT_S - 0.5:
        return f"old, > {LIMIT_S:.0f} s"
    words = "new" if stale_s < _FRESH_S else f"old, {stale_s:.1f} s"
    if failing_s >= LIMIT_S - 0.5:
        return f"{words}; errors, > {LIMIT_S:.0f} s"
    return words if failing_s < _FRESH_S else f"{words}; errors, {failing_s:.1f} s"


def render(results: dict[str, Any]) -> str:
    """Return the table: a row for each race, a column for each cache."""
    caches = list(results["outcomes"])
    heads = [f"{cache} {results['versions'][cache]}".strip() for cache in caches]
    lines = [f"| | {' | '.join(heads)} |", f"| --- |{' --- |' * len(caches)}"]
    for race, (about, _) in SCENARIOS.items():
        cells = [cell(*results["outcomes"][cache][race]) for cache in caches]
        name = about if race == "plain" else f"{race}: {about}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def put_into(document: str, results: dict[str, Any]) -> str:
    """Return the document with the table between its two marks."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render(results)}\n{END}{after}"
