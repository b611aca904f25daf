"""What a check says: how bad it is, what it means, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    """As it should be."""
    NOTE = "note"
    """Worth knowing; may well be meant so."""
    WARNING = "warning"
    """Works, but less well than it should, or not for long."""
    PROBLEM = "problem"
    """Somebody is being served badly now."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `means` and `do` are empty where all is well."""

    area: str
    level: Level
    says: str
    means: str = ""
    do: str = ""

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order of the areas."""

    findings: Sequence[Finding]

    @property
    def bad(self) -> list[Finding]:
        """What calls for somebody to do something."""
        return [f for f in self.findings if f.level in (Level.WARNING, Level.PROBLEM)]


class Area:
    """Makes findings of one area."""

    def __init__(self, name: str) -> None:
        self._name = name

    def ok(self, says: str) -> Finding:
        """All is well."""
        return Finding(self._name, Level.OK, says)

    def note(self, says: str, means: str, do: str = "") -> Finding:
        """Worth knowing."""
        return Finding(self._name, Level.NOTE, says, means, do)

    def warning(self, says: str, means: str, do: str) -> Finding:
        """Not as it should be."""
        return Finding(self._name, Level.WARNING, says, means, do)

    def problem(self, says: str, means: str, do: str) -> Finding:
        """Broken."""
        return Finding(self._name, Level.PROBLEM, says, means, do)
