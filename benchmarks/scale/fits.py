"""Straight lines through measured points, by least squares."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """`a + b * n`, with the largest deviation of a point from it, relative to the point."""

    a: float
    b: float
    worst: float

    def at(self, n: float) -> float:
        """Return the value at `n`."""
        return self.a + self.b * n


def constant(points: Sequence[tuple[float, float]]) -> Line:
    """Return the median as a level line, for values that do not depend on n."""
    middle = statistics.median(value for _, value in points)
    return Line(middle, 0.0, max(abs(middle - value) / value for _, value in points))


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """Fit a line that minimises the *relative* squares, so that few workers count as much as many.

    Args:
        points: pairs of n and a value above 0; at least two different n.
    """
    weights = [1 / (value * value) for _, value in points]
    total = sum(weights)
    mean_n = sum(w * n for w, (n, _) in zip(weights, points, strict=True)) / total
    mean_value = sum(w * value for w, (_, value) in zip(weights, points, strict=True)) / total
    spread = sum(w * (n - mean_n) ** 2 for w, (n, _) in zip(weights, points, strict=True))
    b = (
        sum(w * (n - mean_n) * (value - mean_value) for w, (n, value) in zip(weights, points, strict=True))
        / spread
    )
    a = mean_value - b * mean_n
    worst = max(abs(a + b * n - value) / value for n, value in points)
    return Line(a, b, worst)
