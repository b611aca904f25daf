"""Bar charts as SVG, readable on light and dark pages, drawn without a library."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH, LABELS, BAR, GAP, TOP = 780, 270, 20, 8, 58
# A picture does not know the theme of the page around it, so each colour has to do on white and on GitHub's dark
# page: a contrast of 3 for bars, and of more than 4 for text.
OURS, OTHERS, INK = "#278f58", "#7f8a9c", "#717983"
Row = dict[str, Any]

CHARTS = {
    "library-warm": ("library", "60 keys, L1 warm, 1 thread", "A page of 60 references from the first tier"),
    "library-l2": ("library", "60 keys, L1 cold, L2 warm, 1 thread", "A page of 60 references from Redis"),
    "page-warm": ("pages", "Warm page, 1 connection", "A warm page over HTTP"),
    "page-throughput": ("pages", "Warm page, 16 connections", "Warm pages a second"),
    "page-last": ("pages", "By size, last page", "The last page, by the number of appointments"),
    "invalidation": (
        "invalidation",
        "Invalidation to the last stale read, idle",
        "From an invalidation to the last old name",
    ),
}
"""File name: part, case, title."""


def draw(parts: Sequence[dict[str, Any]], directory: Path, suffix: str) -> list[Path]:
    """Draw the charts whose figures are there; return their paths."""
    rows = {part["part"]: part["rows"] for part in parts}
    paths = []
    for name, (part, case, title) in CHARTS.items():
        wanted = [row for row in rows.get(part, []) if row["case"] == case]
        if wanted:
            path = directory / f"{name}{suffix}.svg"
            path.write_text(bar_chart(title, wanted), encoding="utf-8")
            paths.append(path)
    return paths


def more_is_better(row: Row) -> bool:
    """Whether a figure is a rate rather than a time."""
    return bool(row["unit"].endswith("/s"))


def best_first(rows: Iterable[Row]) -> list[Row]:
    """The rows of one case in order."""
    return sorted(rows, key=lambda row: -row["median"] if more_is_better(row) else row["median"])


def bar_chart(title: str, rows: Sequence[Row]) -> str:
    """One bar for each row, the best first, its spread as a line across its end."""
    rows = best_first(rows)
    scale = (WIDTH - LABELS - 130) / max(max(row["median"], row["high"]) for row in rows)
    height = TOP + len(rows) * (BAR + GAP) + 8
    unit = rows[0]["unit"]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<text x="0" y="18" font-size="16" font-weight="600" fill="{INK}">{escape(title)}</text>',
        f'<text x="0" y="38" fill="{INK}">{escape(rows[0]["case"])}; {escape(unit)},'
        f" {'more' if more_is_better(rows[0]) else 'less'} is better</text>",
    ]
    for index, row in enumerate(rows):
        lines += _bar(TOP + index * (BAR + GAP), row, scale)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _bar(y: int, row: Row, scale: float) -> list[str]:
    ours = bool(row.get("ours"))
    middle = y + BAR / 2
    end = LABELS + row["median"] * scale
    low, high = (LABELS + row[name] * scale for name in ("low", "high"))
    value = f"{row['median']:,.0f}" if row["median"] >= 100 else f"{row['median']:.3g}"
    weight = ' font-weight="600"' if ours else ""
    return [
        f'<text x="{LABELS - 8}" y="{middle + 4:g}" text-anchor="end" fill="{INK}"{weight}>'
        f"{escape(row['contender'])}</text>",
        f'<rect x="{LABELS}" y="{y}" width="{max(1.0, end - LABELS):.1f}" height="{BAR}" rx="2"'
        f' fill="{OURS if ours else OTHERS}"/>',
        f'<path d="M{low:.1f} {middle:g}H{high:.1f}" stroke="{INK}" stroke-width="1.5"/>',
        f'<text x="{max(end, high) + 6:.1f}" y="{middle + 4:g}" fill="{INK}"{weight}>{value}</text>',
    ]
