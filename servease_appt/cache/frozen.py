"""Immutable JSON objects and arrays, which all readers of a process share.

They are equal to the dicts and lists they were made from, and every JSON encoder treats them as such.
"""

from __future__ import annotations

from typing import Any, NoReturn


def freeze(value: Any) -> Any:
    """Return a JSON value in which each object and array, at any depth, is immutable."""
    if isinstance(value, dict):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list):
        return FrozenList(map(freeze, value))
    return value


def _refuse(self: object, *_args: object, **_kwargs: object) -> NoReturn:
    raise TypeError(
        f"a cached value is shared by its readers: make a {type(self).__mro__[1].__name__} of it first"
    )


class FrozenDict(dict[str, Any]):
    """An immutable dict. `dict(value)` and `copy.deepcopy(value)` return a mutable one."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        """Copy and pickle as a plain dict."""
        return dict, (dict(self),)


class FrozenList(list[Any]):
    """An immutable list. `list(value)` and `copy.deepcopy(value)` return a mutable one."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = pop = remove = clear = sort = reverse = _refuse

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Copy and pickle as a plain list."""
        return list, (list(self),)
