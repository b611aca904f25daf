"""The tables about PostgreSQL in `docs/scaling.md`, between markers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.report import number
from benchmarks.scale.markdown import table

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "scaling.md"


def write(results: Mapping[str, Any]) -> Path:
    """Replace the marked section of each part that was measured; return the document's path."""
    text = DOCUMENT.read_text("utf-8")
    for part in results:
        begin, end = f"<!-- begin postgres {part} -->", f"<!-- end postgres {part} -->"
        before, found, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found and found_end):
            raise LookupError(f"the document has no section postgres {part}")
        text = f"{before}{begin}\n{of_part(part, results)}\n{end}{after}"
    DOCUMENT.write_text(text, encoding="utf-8")
    return DOCUMENT


def of_part(part: str, results: Mapping[str, Any]) -> str:
    """Return the table of a part, with where and when it was measured."""
    about = results[part]["machine"]
    where = (
        f"{about['processor']}, {about['cores']} cores, {about['at']}; load average"
        f" {about['load_average'][0]} at the end."
    )
    return f"{where}\n\n{_TABLES[part](results[part]['measured'])}"


def _pooler(rows: list[Mapping[str, Any]]) -> str:
    heads = [
        "way to PostgreSQL",
        "sessions of PostgreSQL",
        "their own memory",
        "lists/s",
        "against direct",
        "p99",
        "PostgreSQL, a list",
        "PgBouncer, a list",
    ]
    return table(
        heads,
        [
            [
                row["name"],
                str(row["sessions"]),
                f"{row['memory_mb']:.0f} MB",
                number(row["lists_per_s"]["median"]),
                _ratio(row["against_direct"]),
                f"{row['p99_ms']:.0f} ms",
                f"{row['postgres_ms']:.2f} ms",
                f"{row['pgbouncer_ms']:.2f} ms" if row["pgbouncer_ms"] else "",
            ]
            for row in rows
        ],
    )


def _replica(measured: Mapping[str, Any]) -> str:
    heads = [
        "lists from",
        "primary's processor time, a list",
        "replica's",
        "service's",
        "lists/s",
        "against the primary",
        "p99",
        "a change",
    ]
    rows = [
        [
            row["name"],
            *(f"{row[of]['median']:.2f} ms" for of in ("primary_ms", "replica_ms", "service_ms")),
            number(row["lists_per_s"]["median"]),
            _ratio(row["against_primary"]),
            f"{row['p99_ms']:.0f} ms",
            f"{row['edit_ms']['median']:.1f} ms",
        ]
        for row in measured["rows"]
    ]
    lag, outcomes = measured["lag_ms"], measured["outcomes"]
    share = outcomes.get("replica", 0) / max(1, sum(outcomes.values()))
    return (
        f"{table(heads, rows)}\n\n"
        f"With {measured['writes_per_s']} changes a second. {share:.1%} of the lists came from the replica. It had"
        f" what was committed after {lag['median']:.1f} ms (median) and {lag['p99']:.1f} ms (p99)."
    )


def _ratio(figure: Mapping[str, float]) -> str:
    return f"{figure['median']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


_TABLES: Final[Mapping[str, Callable[[Any], str]]] = {"pooler": _pooler, "replica": _replica}
