"""Readers of numeric settings, and the error for an invalid setting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class InvalidSetting(ValueError):
    """A setting that is invalid or not supported. The text is one line: the name, the value, what is allowed."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name} is {value!r}; allowed: {allowed}")


def seconds(config: Mapping[str, Any], name: str, default: float) -> float:
    """Return a number of seconds, 0 or more. Raises InvalidSetting for anything else."""
    value = config.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (0 <= number < math.inf):
        raise InvalidSetting(name, value, "seconds, 0 or more")
    return number


def whole_number(config: Mapping[str, Any], name: str, default: int, *, at_least: int = 1) -> int:
    """Return an integer of at least `at_least`. Raises InvalidSetting for anything else."""
    value = config.get(name, default)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = at_least - 1
    if number < at_least:
        raise InvalidSetting(name, value, f"a whole number, {at_least} or more")
    return number
