"""How the field types of requests and answers appear in the OpenAPI document."""

from collections.abc import Sequence
from typing import Any

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema
from marshmallow import fields as marshmallow_fields

from servease_appt.api.openapi_examples import FIELDS
from servease_appt.api.schemas import appointments, fields
from servease_appt.api.schemas.bases import AnswerSchema, ChangeSchema

_REQUEST_TIME = r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$"
_ANSWER_TIME = r"^\d\d:\d\d:\d\d$"
_PROPERTIES: dict[type, dict[str, Any]] = {
    fields.Id: {"type": "string", "format": "uuid"},
    fields.Day: {"type": "string", "format": "date"},
    fields.Moment: {"type": "string", "format": "date-time"},
    fields.Clock: {"type": "string", "pattern": _REQUEST_TIME},
    fields.Whole: {"type": "integer"},
    fields.Figure: {"type": "number"},
    fields.Flag: {"type": "boolean"},
    fields.Money: {"type": "string", "pattern": r"^\d{1,8}(\.\d{1,2})?$"},
    fields.Ids: {"type": "array", "items": {"type": "string", "format": "uuid"}},
    fields.CommaSeparatedIds: {"type": "array", "items": {"type": "string", "format": "uuid"}},
    fields.Link: {"type": "string", "format": "uri-reference"},
    appointments.NameOf: {"type": "string"},
    appointments.Duration: {"type": "string", "pattern": r"^\d\d+:\d\d:\d\d$"},
    appointments.TimeUntil: {"type": "string"},
}
_ANSWER_PROPERTIES: dict[type, dict[str, Any]] = {
    fields.Clock: {"pattern": _ANSWER_TIME},
    fields.Money: {"pattern": r"^\d+\.\d\d$"},
}
_OTHER_WORDS = "Rows from before this service may hold other words."


def first_sentence(schema: Schema) -> str:
    """Return the first sentence of a schema's docstring: what the document says of it."""
    return (schema.__doc__ or "").partition("\n")[0].partition(". ")[0].rstrip(".") + "."


def _comma_separated(field: marshmallow_fields.Field[Any], **_: Any) -> dict[str, Any]:
    return {"style": "form", "explode": False} if isinstance(field, fields.CommaSeparated) else {}


class Converter(OpenAPIConverter):
    """apispec's converter, which also knows this service's field types and names each set of words once."""

    def schema2jsonschema(self, schema: Schema) -> dict[str, Any]:
        """Return the JSON schema of a schema, described by the first sentence of its docstring."""
        found: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call] # apispec's is
        found["description"] = first_sentence(schema)
        if isinstance(schema, ChangeSchema):
            found["additionalProperties"] = False
        return found

    def init_attribute_functions(self) -> None:
        """Put this service's field types first: the functions of apispec see what they have added."""
        super().init_attribute_functions()  # type: ignore[no-untyped-call] # apispec's is
        self.attribute_functions.insert(1, self.own_properties)

    def init_parameter_attribute_functions(self) -> None:
        """Let the document say how several values of a parameter are written."""
        super().init_parameter_attribute_functions()
        self.parameter_attribute_functions.append(_comma_separated)

    def own_properties(self, field: marshmallow_fields.Field[Any], **_: Any) -> dict[str, Any]:
        """Return what a field type of this service means in JSON schema."""
        properties = dict(_PROPERTIES.get(type(field), {}))
        if isinstance(field.root, AnswerSchema):
            # Values from before this service are shown as they are, so limits are promised of requests alone.
            example = FIELDS.get(field.name or "")
            known = field.name in FIELDS and (field.allow_none or example is not None)
            examples = {"examples": [example]} if known else {}
            return properties | _ANSWER_PROPERTIES.get(type(field), {}) | examples
        if isinstance(field, fields.Whole):
            properties |= {"minimum": field.low, "maximum": field.high}
        if isinstance(field, fields.Ids | fields.CommaSeparated):
            properties |= {"minItems": 1, "maxItems": field.most}
        if isinstance(field, fields.CommaSeparatedChoices):
            properties |= {"type": "array", "items": self._named_words(field.component, field.choices)}
        return properties

    def field2property(self, field: marshmallow_fields.Field[Any]) -> dict[str, Any]:
        """Return the JSON schema of a field; a set of words with a name is a reference to its component."""
        found: dict[str, Any] = super().field2property(field)
        if isinstance(field.root, AnswerSchema):
            found.pop("maxLength", None)
        if not isinstance(field, fields.Choice) or field.component is None:
            return found
        words = self._named_words(field.component, found["enum"])
        about = {name: found[name] for name in ("description", "default") if name in found}
        if field.others:
            return {"anyOf": [words, {"type": "string"}], "description": _OTHER_WORDS} | about
        return words | about

    def _named_words(self, component: str, words: Sequence[str]) -> dict[str, Any]:
        """Return a reference to the component that lists the words; it is added if it is not there yet."""
        if component not in self.spec.components.schemas:
            self.spec.components.schema(component, {"type": "string", "enum": list(words)})
        reference: dict[str, Any] = self.spec.components.get_ref("schema", component)
        return reference
