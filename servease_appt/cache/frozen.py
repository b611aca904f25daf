"""JSON objects and arrays that cannot be changed, since all readers of a process share them.

They are equal to the dicts and lists they were made of, and every JSON encoder takes them for such.
"""

from __future__ import annotations

from typing import Any, NoReturn


def freeze(value: Any) -> Any:
    """Return a JSON value with each object and array in it, at any depth, made unchangeable."""
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
    """A dict that cannot be changed. `dict(value)` and `copy.deepcopy(value)` give one that can."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        """Be copied and pickled as a plain dict."""
        return dict, (dict(self),)


class FrozenList(list[Any]):
    """A list that cannot be changed. `list(value)` and `copy.deepcopy(value)` give one that can."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = pop = remove = clear = sort = reverse = _refuse

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Be copied and pickled as a plain list."""
        return list, (list(self),)
