"""Schemas whose `dump` is compiled from their declared fields, for answers with many rows.

marshmallow's own `dump` calls about ten functions for each value. For a page of 20 rows it takes some twenty times
as long as a function that builds the same dictionaries. So such a function is generated for each schema object.
"""

from collections.abc import Callable
from typing import Any

from marshmallow import fields
from marshmallow.decorators import POST_DUMP, PRE_DUMP
from marshmallow.experimental.context import Context

from servease_appt.api.schemas.bases import AnswerSchema

Dump = Callable[[Any], Any]
_SOURCE = """
def dump_one(row):
    {context}
    return {row}

def dump_many(rows):
    {context}
    return [{row} for row in rows]
"""


class InlineField(fields.Field[Any]):
    """A field whose value is a Python expression of `row` and of `context`, the current marshmallow Context."""

    _CHECK_ATTRIBUTE = False
    expression: str


class CompiledSchema(AnswerSchema):
    """A schema for objects with an attribute for each field. Its `dump` takes no hooks and no dictionaries."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self._hooks[PRE_DUMP] or self._hooks[POST_DUMP]:
            raise TypeError(f"{type(self).__name__} is compiled: hooks of dump would not be called")
        self._dump_one, self._dump_many = _compiled(self)

    def dump(self, obj: Any, *, many: bool | None = None) -> Any:
        """Return what `marshmallow.Schema.dump` would return.

        Args:
            obj: an object with an attribute for each field that is dumped, or an iterable of such objects.
            many: whether `obj` is an iterable; None means what the schema was made with.

        Raises:
            AttributeError: an attribute is not there.
            LookupError: a field needs a marshmallow Context, and none is entered.
        """
        return self._dump_many(obj) if (self.many if many is None else many) else self._dump_one(obj)


def _compiled(schema: CompiledSchema) -> tuple[Dump, Dump]:
    """Return the functions that dump one object and many objects."""
    names: dict[str, Any] = {"Context": Context}
    pairs = [
        f"{field.data_key or name!r}: {_value(name, field, names)}"
        for name, field in schema.dump_fields.items()
    ]
    inline = any(isinstance(field, InlineField) for field in schema.dump_fields.values())
    source = _SOURCE.format(
        row=f"{{{', '.join(pairs)}}}", context="context = Context.get()" if inline else ""
    )
    # The source holds nothing but identifiers of declared fields.
    exec(compile(source, f"<dump of {type(schema).__name__}>", "exec"), names)  # noqa: S102
    return names["dump_one"], names["dump_many"]


def _value(name: str, field: fields.Field[Any], names: dict[str, Any]) -> str:
    """Return the expression for one field's value; functions that it calls are added to `names`."""
    if isinstance(field, InlineField):
        return field.expression
    # Both names are what marshmallow has a field type override: they are its interface.
    attribute = f"row.{field.attribute or name}" if field._CHECK_ATTRIBUTE else "None"  # noqa: SLF001
    write = type(field)._serialize  # noqa: SLF001
    if write is fields.Field._serialize:  # noqa: SLF001 - the value as it is
        return attribute
    function = f"write_{len(names)}"
    names[function] = write.__get__(field)
    call = f"{function}({attribute}, {name!r}, row)"
    as_is = getattr(field, "written_as_is", None)
    return call if as_is is None else f"{attribute} if {attribute}.__class__ is {as_is.__name__} else {call}"
