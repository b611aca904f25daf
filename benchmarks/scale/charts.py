"""Line charts as SVG, readable on light and dark pages, drawn without a library."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 780, 380, 64, 24, 84, 44
COLOURS = ("#1f7a4d", "#c2571a", "#3f6fc4", "#8a4fb0")
STYLE = (
    "<style>text{fill:#57606a}.axis{stroke:#8a94a6;stroke-opacity:.45}"
    "@media(prefers-color-scheme:dark){text{fill:#9aa4b2}}</style>"
)
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart says. The x axis is logarithmic; `limit` is a dashed line at that height."""

    title: str
    about: str
    x: str
    y: str
    log_y: bool = False
    limit: float | None = None


def draw(path: Path, chart: Chart, lines: Mapping[str, Points]) -> Path:
    """Write the chart of some lines, by name; return its path."""
    path.write_text(line_chart(chart, lines), encoding="utf-8")
    return path


def line_chart(chart: Chart, lines: Mapping[str, Points]) -> str:
    """Return the chart as SVG."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_at = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT, log=True)
    low, high = (10 ** math.floor(math.log10(min(ys))), max(ys)) if chart.log_y else (0.0, 100.0)
    y_at = _scale(low, high, HEIGHT - BOTTOM, TOP, log=chart.log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' font-family="system-ui, sans-serif" font-size="13">{STYLE}',
        f"<title>{escape(chart.title)}</title>",
        f'<text x="0" y="18" font-size="16" font-weight="600">{escape(chart.title)}</text>',
        f'<text x="0" y="38">{escape(chart.about)}</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(chart.x)}</text>',
        f'<text x="0" y="{TOP - 12}">{escape(chart.y)}</text>',
    ]
    parts += [
        _text(x_at(x), HEIGHT - BOTTOM + 18, _short(x), "middle") for x in _ticks(min(xs), max(xs), log=True)
    ]
    for y in _ticks(low, high, log=chart.log_y):
        parts.append(f'<path class="axis" d="M{LEFT} {y_at(y):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 8, y_at(y) + 4, _short(y), "end"))
    if chart.limit is not None:
        y = y_at(chart.limit)
        parts.append(
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#b3372f" stroke-dasharray="5 4" fill="none"/>'
        )
    parts += _drawn(lines, x_at, y_at)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(
    lines: Mapping[str, Points], x_at: Callable[[float], float], y_at: Callable[[float], float]
) -> Iterator[str]:
    at = LEFT + 90
    for colour, (name, points) in zip(COLOURS, lines.items(), strict=False):
        path = "L".join(f"{x_at(x):.1f} {y_at(y):.1f}" for x, y in points)
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        yield f'<rect x="{at}" y="{TOP - 23}" width="14" height="4" fill="{colour}"/>'
        yield _text(at + 19, TOP - 17, name, "start")
        at += 46 + 7 * len(name)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _scale(low: float, high: float, first: float, last: float, *, log: bool) -> Callable[[float], float]:
    def position(value: float) -> float:
        part = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return first + part * (last - first)

    return position


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    if not log:
        return [low + (high - low) * step / 5 for step in range(6)]
    exponents = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    return [10.0**exponent for exponent in exponents]


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value:,g}"
