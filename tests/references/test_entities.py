"""What is taken from Redis for a customer, a vehicle or an employee, and what is not."""

import json
from typing import Any

import pytest

from servease_appt.cache.codecs import Codecs
from servease_appt.references.entities import (
    CODECS,
    ENTITIES,
    MAX_TEXT_CHARS,
    Reference,
    customer,
    employee,
    vehicle,
)

ID = "5f0c7a52-0b1d-4c57-9c7a-2f6f0a3c1d11"
LONG = "x" * (MAX_TEXT_CHARS + 1)
FIELDS: dict[str, dict[str, Any]] = {
    "customer": {"id": ID, "full_name": "Alice Ant", "email": "a@example.com"},
    "vehicle": {"id": ID, "year": 2020, "make": "Toyota", "model": "Corolla"},
    "employee": {"id": ID, "full_name": "Bob Bee"},
}
codecs = Codecs(CODECS)


def decoded(entity: str, fields: object) -> Reference | None:
    """What the cache makes of such bytes."""
    return codecs.decode(f"{entity}_{ID}", json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("entity", "made", "display"),
    [
        ("customer", customer(**FIELDS["customer"]), "Alice Ant"),
        ("vehicle", vehicle(**FIELDS["vehicle"]), "2020 Toyota Corolla"),
        ("employee", employee(**FIELDS["employee"]), "Bob Bee"),
    ],
)
def test_what_is_stored_is_found_again(entity: str, made: Reference, display: str) -> None:
    """A record comes back as it was made, with the text to show."""
    payload = codecs.of(f"{entity}_{ID}").encode(made)

    assert json.loads(payload) == FIELDS[entity]
    assert codecs.decode(f"{entity}_{ID}", payload) == made
    assert made.display == display


@pytest.mark.parametrize(
    "made",
    [
        customer(id=ID, full_name=LONG, email=LONG),
        vehicle(id=ID, year=LONG, make=LONG, model=LONG),
        employee(id=ID, full_name=LONG),
    ],
    ids=FIELDS,
)
def test_a_long_text_is_cut_when_it_is_made(made: Reference, request: pytest.FixtureRequest) -> None:
    """What the cache stores it must be able to read again: both sides have the same limit."""
    key = f"{request.node.callspec.id}_{ID}"

    assert codecs.decode(key, codecs.of(key).encode(made)) == made
    assert {len(text) for name, text in made.fields.items() if name != "id"} == {MAX_TEXT_CHARS}


def test_the_registry_has_each_entity_under_its_own_name() -> None:
    """Its codec, its fields and its fallback belong together."""
    assert list(ENTITIES) == ["customer", "vehicle", "employee"]
    for name, entity in ENTITIES.items():
        assert entity.name == entity.codec.name == name
        assert {"id", *entity.fallback} == set(FIELDS[name])


NO_TEXTS: tuple[Any, ...] = (None, 1, True, ["x"], {}, LONG)
NO_YEARS: tuple[Any, ...] = (None, True, 2020.0, [2020], LONG)


@pytest.mark.parametrize(
    ("entity", "changed"),
    [
        *(("customer", {name: wrong}) for name in ("full_name", "email") for wrong in NO_TEXTS),
        *(("vehicle", {name: wrong}) for name in ("make", "model") for wrong in NO_TEXTS),
        *(("vehicle", {"year": wrong}) for wrong in NO_YEARS),
        *(("employee", {"full_name": wrong}) for wrong in NO_TEXTS),
        *((entity, {"id": ID.upper()}) for entity in FIELDS),
        *((entity, {"more": 1}) for entity in FIELDS),
    ],
)
def test_another_field_or_value_makes_it_none(entity: str, changed: dict[str, Any]) -> None:
    """Whoever wrote it: a field of another type, one too many, too long a text and another id are refused."""
    assert decoded(entity, FIELDS[entity]) is not None
    assert decoded(entity, FIELDS[entity] | changed) is None


@pytest.mark.parametrize("entity", FIELDS)
def test_a_missing_field_makes_it_none(entity: str) -> None:
    """Every field of the record has to be there."""
    for name in FIELDS[entity]:
        assert decoded(entity, {key: value for key, value in FIELDS[entity].items() if key != name}) is None


def test_a_year_may_be_a_text() -> None:
    """Some services give it as one; a blank part is left out of what is shown."""
    found = decoded("vehicle", FIELDS["vehicle"] | {"year": " 2020", "model": " "})

    assert found is not None
    assert found.display == "2020 Toyota"


@pytest.mark.parametrize(("entity", "shown"), [("customer", "Unknown"), ("employee", "Unassigned")])
def test_a_blank_name_is_shown_as_the_placeholder(entity: str, shown: str) -> None:
    """And is kept as it is."""
    found = decoded(entity, FIELDS[entity] | {"full_name": "  "})

    assert found is not None
    assert (found.display, found.fields["full_name"]) == (shown, "  ")
