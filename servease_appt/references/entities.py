"""The three kinds of things that an appointment refers to, each declared once.

`ENTITIES` is the registry: whatever differs between customers, vehicles and employees stands there. In L2 an
entity is a plain JSON object with the fields of the contract; bytes that are not exactly such an object of the
key's id are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from servease_appt.cache import Codec
from servease_appt.clients import Upstreams
from servease_appt.identifiers import canonical_uuid
from servease_appt.settings import Settings

MAX_TEXT_CHARS: Final = 1000
"""The longest text that is cached. A longer one is cut when it is loaded, and refused when it is read from L2."""

CUSTOMER: Final = "customer"
VEHICLE: Final = "vehicle"
EMPLOYEE: Final = "employee"


class Reference(NamedTuple):
    """One customer, vehicle or employee; shared between threads.

    Attributes:
        fields: the JSON object as stored in L2. Not to be changed; hand out copies.
        display: the text that a page shows.
    """

    fields: Mapping[str, Any]
    display: str


@dataclass(frozen=True, slots=True)
class Entity:
    """What the service has to know about one kind of reference.

    Attributes:
        name: the word in keys (`customer_{uuid}`), metrics, commands and messages.
        placeholder: what a page shows where the reference can't be had.
        fallback: the fields of the L2 object beside `id`, each with the value that `get_…_cached` returns where
            the reference can't be had.
        codec: how the cache stores it.
        fetch: ask the owning service for it: `fetch(upstreams, id, auth_token, timeout_s)`. Raises UpstreamError.
        url_setting: the variable that holds the base URL of the owning service.
        url: the value of that variable.
        appointment_field: the field of an appointment that holds the id.
    """

    name: str
    placeholder: str
    fallback: Mapping[str, str]
    codec: Codec[Reference]
    fetch: Callable[[Upstreams, str, str | None, float], Reference]
    url_setting: str
    url: Callable[[Settings], str]
    appointment_field: str


def customer(*, id: str, full_name: str, email: str) -> Reference:  # noqa: A002 - the JSON field's name
    """Return a customer to cache. A blank name is shown as the placeholder."""
    return _customer({"id": id, "full_name": _cut(full_name), "email": _cut(email)})


def vehicle(*, id: str, year: int | str, make: str, model: str) -> Reference:  # noqa: A002
    """Return a vehicle to cache. It is shown as year, make and model without the blank ones."""
    year = _cut(year) if isinstance(year, str) else year
    return _vehicle({"id": id, "year": year, "make": _cut(make), "model": _cut(model)})


def employee(*, id: str, full_name: str) -> Reference:  # noqa: A002
    """Return an employee to cache. A blank name is shown as the placeholder."""
    return _employee({"id": id, "full_name": _cut(full_name)})


def _cut(text: str) -> str:
    return text[:MAX_TEXT_CHARS]


# Each also refuses fields of other types: of all that JSON knows, only texts can be stripped.


def _customer(fields: Mapping[str, Any]) -> Reference:
    if type(fields["email"]) is not str:
        raise ValueError("email is no text")
    return Reference(fields, fields["full_name"].strip() or "Unknown")


def _vehicle(fields: Mapping[str, Any]) -> Reference:
    year = fields["year"]
    if type(year) is not int and type(year) is not str:
        raise ValueError("year is neither a number nor a text")
    parts = (str(year).strip(), fields["make"].strip(), fields["model"].strip())
    return Reference(fields, " ".join(filter(None, parts)))


def _employee(fields: Mapping[str, Any]) -> Reference:
    return Reference(fields, fields["full_name"].strip() or "Unassigned")


def _encode(reference: Reference) -> bytes:
    return orjson.dumps(reference.fields)


def _codec(
    name: str, make: Callable[[Mapping[str, Any]], Reference], fields_beside_id: Mapping[str, str]
) -> Codec[Reference]:
    expected = {"id", *fields_beside_id}

    def decode(payload: bytes, id_: str) -> Reference:
        fields = orjson.loads(payload)
        if type(fields) is not dict or fields.keys() != expected or fields["id"] != id_:
            raise ValueError("not such an object of this id")
        if len(payload) > MAX_TEXT_CHARS and any(
            len(str(value)) > MAX_TEXT_CHARS for value in fields.values()
        ):
            raise ValueError("a text is too long")
        return make(fields)

    return Codec(name, _encode, decode, canonical_uuid)


def _fetch_customer(upstreams: Upstreams, id_: str, auth_token: str | None, timeout_s: float) -> Reference:
    found = upstreams.customers.get(id_, auth_token, timeout_s)
    return customer(id=id_, full_name=found.full_name, email=found.email)


def _fetch_vehicle(upstreams: Upstreams, id_: str, auth_token: str | None, timeout_s: float) -> Reference:
    found = upstreams.vehicles.get(id_, auth_token, timeout_s)
    return vehicle(id=id_, year=found.year, make=found.make, model=found.model)


def _fetch_employee(upstreams: Upstreams, id_: str, auth_token: str | None, timeout_s: float) -> Reference:
    found = upstreams.employees.get(id_, auth_token, timeout_s)
    return employee(id=id_, full_name=found.full_name)


_CUSTOMER_FIELDS: Final = {"full_name": "Unknown", "email": ""}
_VEHICLE_FIELDS: Final = {"year": "", "make": "", "model": ""}
_EMPLOYEE_FIELDS: Final = {"full_name": "Unassigned"}

ENTITIES: Final[Mapping[str, Entity]] = MappingProxyType(
    {
        CUSTOMER: Entity(
            name=CUSTOMER,
            placeholder="Unknown",
            fallback=_CUSTOMER_FIELDS,
            codec=_codec(CUSTOMER, _customer, _CUSTOMER_FIELDS),
            fetch=_fetch_customer,
            url_setting="CUSTOMER_SERVICE_URL",
            url=lambda settings: settings.customer_service_url,
            appointment_field="customer_id",
        ),
        VEHICLE: Entity(
            name=VEHICLE,
            placeholder="",
            fallback=_VEHICLE_FIELDS,
            codec=_codec(VEHICLE, _vehicle, _VEHICLE_FIELDS),
            fetch=_fetch_vehicle,
            url_setting="VEHICLE_SERVICE_URL",
            url=lambda settings: settings.vehicle_service_url,
            appointment_field="vehicle_id",
        ),
        EMPLOYEE: Entity(
            name=EMPLOYEE,
            placeholder="Unassigned",
            fallback=_EMPLOYEE_FIELDS,
            codec=_codec(EMPLOYEE, _employee, _EMPLOYEE_FIELDS),
            fetch=_fetch_employee,
            url_setting="EMPLOYEE_SERVICE_URL",
            url=lambda settings: settings.employee_service_url,
            appointment_field="assigned_employee_id",
        ),
    }
)
"""The registry, by name: iterating gives the names, in the order in which they are listed everywhere."""

CODECS: Final[tuple[Codec[Reference], ...]] = tuple(entity.codec for entity in ENTITIES.values())
