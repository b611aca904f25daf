"""What the cache keeps of a customer, a vehicle and an employee: the fields of the contract, and nothing else.

In L2 they are plain JSON; bytes that are not exactly such an object of the key's id are refused, whoever wrote
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from servease_appt.cache import Codec
from servease_appt.identifiers import canonical_uuid

UNKNOWN: Final = "Unknown"
UNASSIGNED: Final = "Unassigned"
NO_VEHICLE: Final = ""
MAX_TEXT_CHARS: Final = 1000

CUSTOMER: Final = "customer"
VEHICLE: Final = "vehicle"
EMPLOYEE: Final = "employee"
ENTITIES: Final = (CUSTOMER, VEHICLE, EMPLOYEE)

PLACEHOLDERS: Final[Mapping[str, str]] = {CUSTOMER: UNKNOWN, VEHICLE: NO_VEHICLE, EMPLOYEE: UNASSIGNED}
"""What a page shows where a reference can't be had."""


class Reference(NamedTuple):
    """One customer, vehicle or employee; shared between threads.

    Attributes:
        fields: the JSON object as it lies in L2. Not to be changed; hand out copies.
        display: the text that a page shows.
    """

    fields: Mapping[str, Any]
    display: str


def customer(*, id: str, full_name: str, email: str) -> Reference:  # noqa: A002 - the JSON field's name
    """A customer; a blank name is shown as the placeholder."""
    return _customer({"id": id, "full_name": full_name, "email": email})


def vehicle(*, id: str, year: int | str, make: str, model: str) -> Reference:  # noqa: A002
    """A vehicle, shown as year, make and model without the blank ones."""
    return _vehicle({"id": id, "year": year, "make": make, "model": model})


def employee(*, id: str, full_name: str) -> Reference:  # noqa: A002
    """An employee; a blank name is shown as the placeholder."""
    return _employee({"id": id, "full_name": full_name})


# Each also refuses fields of other types: of all that JSON knows, only texts can be stripped.


def _customer(fields: Mapping[str, Any]) -> Reference:
    if type(fields["email"]) is not str:
        raise ValueError("email is no text")
    return Reference(fields, fields["full_name"].strip() or UNKNOWN)


def _vehicle(fields: Mapping[str, Any]) -> Reference:
    year = fields["year"]
    if type(year) is not int and type(year) is not str:
        raise ValueError("year is neither a number nor a text")
    parts = (str(year).strip(), fields["make"].strip(), fields["model"].strip())
    return Reference(fields, " ".join(filter(None, parts)))


def _employee(fields: Mapping[str, Any]) -> Reference:
    return Reference(fields, fields["full_name"].strip() or UNASSIGNED)


def _encode(reference: Reference) -> bytes:
    return orjson.dumps(reference.fields)


def _decoder(
    make: Callable[[Mapping[str, Any]], Reference], *names: str
) -> Callable[[bytes, str], Reference]:
    expected = {"id", *names}

    def decode(payload: bytes, id_: str) -> Reference:
        fields = orjson.loads(payload)
        if type(fields) is not dict or fields.keys() != expected or fields["id"] != id_:
            raise ValueError("not such an object of this id")
        if len(payload) > MAX_TEXT_CHARS and any(
            len(str(value)) > MAX_TEXT_CHARS for value in fields.values()
        ):
            raise ValueError("a text is too long")
        return make(fields)

    return decode


CODECS: Final[tuple[Codec[Reference], ...]] = (
    Codec(CUSTOMER, _encode, _decoder(_customer, "full_name", "email"), canonical_uuid),
    Codec(VEHICLE, _encode, _decoder(_vehicle, "year", "make", "model"), canonical_uuid),
    Codec(EMPLOYEE, _encode, _decoder(_employee, "full_name"), canonical_uuid),
)
