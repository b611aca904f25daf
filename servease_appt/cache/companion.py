"""What a program adds to its worker's cache: periodic work and more state."""

from __future__ import annotations

from typing import Any, Protocol


class Companion(Protocol):
    """Periodic work and state that go with the cache of a worker. Its exceptions are logged."""

    def pulse(self) -> None:
        """Start periodic work. Called about twice a second on the listener's thread, so it must not block.

        It is also called while Redis does not answer.
        """

    def describe(self) -> dict[str, Any]:
        """Return more state for `TwoTierCache.describe`, as a JSON object."""


class NoCompanion:
    """The companion of a cache that was given none."""

    def pulse(self) -> None:
        """Do nothing."""

    def describe(self) -> dict[str, Any]:
        """Return no state."""
        return {}
