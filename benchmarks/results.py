"""Collect figures, compare them with their targets and write them."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure

DIRECTORY = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Scale:
    """The extent of a run: rounds, a factor for times, seconds for a page, appointments."""

    rounds: int
    length: float
    seconds: float
    sizes: tuple[int, ...]
    quick: bool


FULL = Scale(rounds=15, length=1.0, seconds=0.6, sizes=(1_000, 100_000, 1_000_000), quick=False)
QUICK = Scale(rounds=5, length=0.4, seconds=0.2, sizes=(1_000,), quick=True)


@dataclass(slots=True)
class Results:
    """The figures of one run, by part."""

    scale: Scale
    rows: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        *,
        part: str,
        case: str,
        contender: str,
        unit: str,
        figure: Figure,
        baseline: str | None = None,
        ratio: Figure | None = None,
        **more: Any,
    ) -> None:
        """Add one figure and its ratio to the baseline."""
        row = {"part": part, "case": case, "contender": contender, "unit": unit, **figure.as_json()}
        if baseline is not None and ratio is not None:
            row |= {"baseline": baseline, "ratio": ratio.as_json()}
        self.rows.append(row | {name: value for name, value in more.items() if value not in (None, {})})

    def target(
        self, text: str, *, value: float, limit: float, unit: str = "", at_least: bool = False
    ) -> None:
        """Compare one figure with its target."""
        reached = value >= limit if at_least else value <= limit
        self.targets.append(
            {
                "target": text,
                "value": round(value, 4),
                "limit": limit,
                "unit": unit,
                "at_least": at_least,
                "reached": reached,
            }
        )

    def note(self, text: str) -> None:
        """Add a remark for readers of the figures."""
        self.notes.append(text)

    def find(self, case: str, contender: str) -> dict[str, Any]:
        """Return the row of one contender in one case. Raises LookupError."""
        for row in self.rows:
            if (row["case"], row["contender"]) == (case, contender):
                return row
        raise LookupError(f"{contender} was not measured in {case}")

    def write(self, part: str) -> Path:
        """Write one part as JSON; a quick run does not overwrite a full one's file."""
        DIRECTORY.mkdir(exist_ok=True)
        path = DIRECTORY / f"{part}{'-quick' if self.scale.quick else ''}.json"
        about: dict[str, Any] = {
            "part": part,
            "machine": machine(),
            "rows": self.rows,
            "targets": self.targets,
            "notes": self.notes,
        }
        path.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def machine() -> Mapping[str, Any]:
    """Return a description of the machine and its load."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _commit() -> str:
    """Return the commit that is measured, or an empty text without git or repository."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
