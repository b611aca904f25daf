"""Callbacks that renew objects in a forked child."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_owners: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def after_fork(owner: T, renew: Callable[[T], None]) -> None:
    """Call `renew(owner)` in every child process, for as long as `owner` lives."""
    _owners[owner] = renew


def _renew_all() -> None:
    for owner, renew in list(_owners.items()):
        renew(owner)


os.register_at_fork(after_in_child=_renew_all)
