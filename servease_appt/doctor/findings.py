"""The result of a check: how serious it is, what it means, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    """As it should be."""
    NOTE = "note"
    """Worth knowing; may be intended."""
    WARNING = "warning"
    """It works, but less well than it should, or not for long."""
    PROBLEM = "problem"
    """Users are affected now."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `means` and `do` are empty where all is well."""

    area: str
    level: Level
    says: str
    means: str = ""
    do: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order of the areas."""

    findings: Sequence[Finding]

    @property
    def bad(self) -> list[Finding]:
        """Return the warnings and problems: what somebody has to act on."""
        return [f for f in self.findings if f.level in (Level.WARNING, Level.PROBLEM)]

    def as_json(self) -> dict[str, Any]:
        """Return the findings, and whether there is nothing to act on."""
        return {"healthy": not self.bad, "findings": [found.as_json() for found in self.findings]}


class Area:
    """Makes the findings of one area."""

    def __init__(self, name: str) -> None:
        self._name = name

    def ok(self, says: str) -> Finding:
        """Return a finding: all is well."""
        return Finding(self._name, Level.OK, says)

    def note(self, says: str, means: str, do: str = "") -> Finding:
        """Return a finding: worth knowing."""
        return Finding(self._name, Level.NOTE, says, means, do)

    def warning(self, says: str, means: str, do: str) -> Finding:
        """Return a finding: not as it should be."""
        return Finding(self._name, Level.WARNING, says, means, do)

    def problem(self, says: str, means: str, do: str) -> Finding:
        """Return a finding: users are affected."""
        return Finding(self._name, Level.PROBLEM, says, means, do)
