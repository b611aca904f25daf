"""Write the table, for the terminal and for docs/faults.md, and the numbers as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from faults.experiment import Result

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "faults" / "results.json"
PAGE = REPOSITORY / "docs" / "faults.md"
_HEADINGS = (
    "fault",
    "promise",
    "stale beyond it",
    "longest staleness",
    "recovery",
    "added p99",
    "longest page",
    "not 2xx",
    "kept",
)


def row(result: Result) -> tuple[str, ...]:
    """Return one line of the table."""
    return (
        result.fault,
        result.promise,
        f"{result.stale_beyond} of {result.reads}",
        _ms(result.stale_max_ms),
        _ms(result.recovery_ms),
        _ms(result.added_p99_ms),
        _ms(result.page_max_ms),
        _statuses(result.statuses) or "none",
        "yes" if result.kept else "NO",
    )


def table(results: Iterable[Result]) -> str:
    """Return a Markdown table, followed by the notes."""
    results = list(results)
    lines = [_HEADINGS, tuple("---" for _ in _HEADINGS), *(row(result) for result in results)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = [f"* `{result.fault}`: {'; '.join(said)}" for result in results if (said := _notes(result))]
    return "\n".join([text, "", *notes])


def _notes(result: Result) -> list[str]:
    stall = [f"Redis itself stood still for {result.server_stall_ms:.0f} ms, so the bound was longer by that"]
    return [
        *result.remarks,
        *(stall if result.server_stall_ms else []),
        *(f"**{what}**" for what in result.broken),
    ]


class Figures(Protocol):
    """What was measured beside the catalogue."""

    @property
    def kept(self) -> bool:
        """Return whether every promise was kept."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Return every field."""
        ...

    def text(self) -> str:
        """Return it in words, as Markdown."""
        ...


def keep_table(section: str, results: Sequence[Result], *, again: bool = False) -> None:
    """Replace one table of the results and of the page; with `again` the rows of these faults only."""
    numbers = {result.fault: result.as_json() for result in results}
    if again:
        numbers = _known().get(section, {}).get("measured", {}) | numbers
    _keep(section, numbers, table(Result(**result) for result in numbers.values()))


def keep_figures(section: str, figures: Figures) -> None:
    """Replace one section of the results and of the page."""
    _keep(section, figures.as_json(), figures.text())


def _keep(section: str, numbers: dict[str, Any], text: str) -> None:
    measured = {"machine": _machine(), "measured": numbers}
    RESULTS.write_text(json.dumps(_known() | {section: measured}, indent=1) + "\n")
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    before, found, rest = PAGE.read_text().partition(begin)
    if not found:
        raise ValueError(f"{PAGE} has no section {section}")
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _known() -> dict[str, Any]:
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return known


def _machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[1]:.1f}"


def _ms(value: float) -> str:
    return "0" if value < 0.05 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _statuses(statuses: dict[str, dict[str, int]]) -> str:
    return ", ".join(f"{op} {status} ×{n}" for op, counts in statuses.items() for status, n in counts.items())
