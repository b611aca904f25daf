"""What the three clients make of answers that the services give."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from servease_appt.clients import (
    BadAnswer,
    Customer,
    Denied,
    Employee,
    InvalidId,
    NotFound,
    Unavailable,
    Upstreams,
    Vehicle,
)
from servease_appt.testing.fake_services import FakeService, FakeServices

ID = "6f1c0a52-57c3-4c6f-9d3a-0a2b6a1f4e10"
OWN_ID = "0b54e7cc-3f0e-4f41-8e0c-77a1d4a8b3f9"
OTHER_ID = "f00dfeed-0000-4000-8000-000000000001"
TOKEN = "header.payload.signature"


@pytest.fixture
def upstreams(fake_services: FakeServices) -> Iterator[Upstreams]:
    settings = {name.lower(): url for name, url in fake_services.settings.items()}
    upstreams = Upstreams.from_urls(**settings, timeout_s=2.0, pool_size=8)
    yield upstreams
    upstreams.close()


def answers(service: FakeService, **answer: Any) -> None:
    """Let the service give this object to every call."""
    import json

    service.rule(body=json.dumps(answer))


def test_customer_by_account_id(fake_services: FakeServices, upstreams: Upstreams) -> None:
    """A customer is found by the id of their account; the service's own id for them comes as an alias."""
    fake_services.customers.put(
        {"id": ID, "own_id": OWN_ID, "full_name": "Ada King", "email": "ada@example.com"}
    )

    found = upstreams.customers.get(ID, TOKEN)

    assert found == Customer(ID, "Ada King", "ada@example.com", aliases=(OWN_ID,))
    assert fake_services.customers.calls() == {f"/api/v1/customers/logical/{ID}/": 1}


def test_customer_by_own_id(fake_services: FakeServices, upstreams: Upstreams) -> None:
    """A 404 for the account id is followed by a second call, and the id that was asked for is kept."""
    fake_services.customers.put(
        {"id": ID, "own_id": OWN_ID, "full_name": "Ada King", "email": "ada@example.com"}
    )

    found = upstreams.customers.get(OWN_ID, TOKEN)

    assert found == Customer(OWN_ID, "Ada King", "ada@example.com", aliases=(ID,))
    assert list(fake_services.customers.calls()) == [
        f"/api/v1/customers/logical/{OWN_ID}/",
        f"/api/v1/customers/{OWN_ID}/",
    ]


def test_customer_whom_nobody_knows(upstreams: Upstreams) -> None:
    """404 twice is NotFound."""
    with pytest.raises(NotFound) as caught:
        upstreams.customers.get(ID, TOKEN)

    assert caught.value.status == 404


def test_only_404_is_followed_by_a_second_call(fake_services: FakeServices, upstreams: Upstreams) -> None:
    """A failure of the first call is the customer's failure: no second call."""
    fake_services.customers.rule("logical", status=503)

    with pytest.raises(Unavailable):
        upstreams.customers.get(ID, TOKEN)
    assert sum(fake_services.customers.calls().values()) == 1


def test_customer_whose_answer_has_only_account_fields(
    fake_services: FakeServices, upstreams: Upstreams
) -> None:
    """The platform's account fields (`user_first_name`, …) make a name too, and `user_email` is the email."""
    answers(
        fake_services.customers,
        id=OWN_ID,
        user_id=ID,
        user_email="ada@example.com",
        user_first_name="Ada",
        user_last_name="King",
    )

    assert upstreams.customers.get(ID, TOKEN) == Customer(
        ID, "Ada King", "ada@example.com", aliases=(OWN_ID,)
    )


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ({"full_name": "  Ada King "}, "Ada King"),
        ({"full_name": "Ada", "first_name": "Not", "last_name": "This"}, "Ada"),
        ({"full_name": "", "first_name": "Ada", "last_name": "King"}, "Ada King"),
        ({"full_name": None, "first_name": "Ada"}, "Ada"),
        ({"full_name": "N/A", "first_name": "", "last_name": None}, ""),
        ({"full_name": ""}, ""),
        ({"first_name": "", "last_name": ""}, ""),
        ({"full_name": "Zoë 李 😀"}, "Zoë 李 😀"),
    ],
)
def test_names(fake_services: FakeServices, upstreams: Upstreams, answer: dict[str, Any], name: str) -> None:
    """`full_name` counts, else first and last name; blanks are dropped, and all blank is an empty name."""
    answers(fake_services.customers, **answer)
    answers(fake_services.employees, **answer)

    assert upstreams.customers.get(ID, TOKEN).full_name == name
    assert upstreams.employees.get(ID, TOKEN) == Employee(ID, name)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"name": "Ada"},
        {"full_name": 5},
        {"full_name": ["Ada"]},
        {"full_name": True},
        {"full_name": {"first": "Ada"}},
        {"full_name": "\ud800"},
        {"first_name": "Ada", "last_name": 1},
    ],
)
def test_unusable_names(fake_services: FakeServices, upstreams: Upstreams, answer: dict[str, Any]) -> None:
    """An answer without any name, or with one that is no text that can be written out, is a bad answer."""
    answers(fake_services.customers, **answer)
    answers(fake_services.employees, **answer)

    with pytest.raises(BadAnswer):
        upstreams.customers.get(ID, TOKEN)
    with pytest.raises(BadAnswer):
        upstreams.employees.get(ID, TOKEN)


@pytest.mark.parametrize("email", [5, ["a@b.c"], "\udfff"])
def test_unusable_email(fake_services: FakeServices, upstreams: Upstreams, email: Any) -> None:
    """An email that is no text is a bad answer, since it would be kept in the cache."""
    answers(fake_services.customers, id=ID, full_name="Ada King", email=email)

    with pytest.raises(BadAnswer):
        upstreams.customers.get(ID, TOKEN)


def test_customer_without_email(fake_services: FakeServices, upstreams: Upstreams) -> None:
    """No email, or null, is an empty one."""
    answers(fake_services.customers, id=ID, full_name="Ada King", email=None)

    assert upstreams.customers.get(ID, TOKEN).email == ""


def test_vehicle(fake_services: FakeServices, upstreams: Upstreams) -> None:
    """A vehicle's id is called `vehicle_id`, and it names its owner."""
    fake_services.vehicles.put(
        {"id": ID, "year": 2021, "make": "Skoda", "model": "Octavia", "customer_id": OTHER_ID}
    )

    assert upstreams.vehicles.get(ID, TOKEN) == Vehicle(ID, 2021, "Skoda", "Octavia", customer_id=OTHER_ID)
    assert fake_services.vehicles.calls() == {f"/api/v1/vehicles/{ID}/": 1}


@pytest.mark.parametrize(
    ("answer", "vehicle"),
    [
        ({}, Vehicle(ID, "", "", "")),
        ({"year": None, "make": None, "model": ""}, Vehicle(ID, "", "", "")),
        ({"year": " 2021 ", "make": " Fiat", "model": "500 "}, Vehicle(ID, "2021", "Fiat", "500")),
        ({"year": 0, "customer_id": 17}, Vehicle(ID, 0, "", "", customer_id="17")),
        ({"customer_id": OTHER_ID.upper()}, Vehicle(ID, "", "", "", customer_id=OTHER_ID)),
        ({"customer_id": ""}, Vehicle(ID, "", "", "")),
        ({"customer_id": ["x"]}, Vehicle(ID, "", "", "")),
    ],
)
def test_vehicles_with_blanks(
    fake_services: FakeServices, upstreams: Upstreams, answer: dict[str, Any], vehicle: Vehicle
) -> None:
    """What a vehicle does not tell is blank; its year may be a number or text."""
    answers(fake_services.vehicles, **answer)

    assert upstreams.vehicles.get(ID, TOKEN) == vehicle


@pytest.mark.parametrize(
    "answer", [{"year": True}, {"year": 20.5}, {"year": [2021]}, {"year": 10**12}, {"make": 1}, {"model": {}}]
)
def test_unusable_vehicles(fake_services: FakeServices, upstreams: Upstreams, answer: dict[str, Any]) -> None:
    """A year that is neither a number nor text, or a make or model that is no text, is a bad answer."""
    answers(fake_services.vehicles, **answer)

    with pytest.raises(BadAnswer):
        upstreams.vehicles.get(ID, TOKEN)


def test_employee(fake_services: FakeServices, upstreams: Upstreams) -> None:
    """An employee is asked for at the path that any caller may use."""
    fake_services.employees.put({"id": ID, "full_name": "Grace Hopper"})

    assert upstreams.employees.get(ID, TOKEN) == Employee(ID, "Grace Hopper")
    assert fake_services.employees.calls() == {f"/api/v1/employees/{ID}/basic/": 1}


def test_answer_about_somebody_else(fake_services: FakeServices, upstreams: Upstreams) -> None:
    """An answer that carries ids, but not the one asked for, is a bad answer: never somebody else's name."""
    answers(fake_services.customers, id=OTHER_ID, user_id=OWN_ID, full_name="Eve")
    answers(fake_services.employees, id=OTHER_ID, full_name="Eve")
    answers(fake_services.vehicles, vehicle_id=OTHER_ID, make="Lada")

    for client in (upstreams.customers, upstreams.employees, upstreams.vehicles):
        with pytest.raises(BadAnswer):
            client.get(ID, TOKEN)


def test_answer_with_its_id_in_another_spelling(fake_services: FakeServices, upstreams: Upstreams) -> None:
    """An id in upper case is the same id; a number is an id of another kind and is not compared."""
    answers(fake_services.employees, id=ID.upper(), user_id=17, full_name="Grace Hopper")

    assert upstreams.employees.get(ID, TOKEN).full_name == "Grace Hopper"


@pytest.mark.parametrize(("status", "error"), [(401, Denied), (403, Denied), (404, NotFound)])
def test_refusals(
    fake_services: FakeServices, upstreams: Upstreams, status: int, error: type[Exception]
) -> None:
    """401 and 403 are about the caller, 404 about the entry."""
    for service in fake_services.all:
        service.rule(status=status)

    for client in (upstreams.customers, upstreams.employees, upstreams.vehicles):
        with pytest.raises(error) as caught:
            client.get(ID, TOKEN)
        assert caught.value.status == status  # type: ignore[attr-defined] # all of the tree have it


@pytest.mark.parametrize(
    "status", [201, 204, 206, 301, 302, 307, 400, 408, 410, 418, 429, 500, 502, 503, 504]
)
def test_any_other_status(fake_services: FakeServices, upstreams: Upstreams, status: int) -> None:
    """Whatever is neither 200 nor a refusal means that the service can't say."""
    fake_services.employees.rule(status=status, body="")

    with pytest.raises(Unavailable) as caught:
        upstreams.employees.get(ID, TOKEN)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "value",
    [
        "",
        "..",
        ".",
        "../../admin",
        "1?x=",
        "%2e%2e",
        "//evil.example/",
        ID.upper(),
        ID.replace("-", ""),
        "{" + ID + "}",
        f"urn:uuid:{ID}",
        f"{ID}/../{ID}",
        f"{ID}\r\nX-Evil: 1",
        f" {ID}",
        f"{ID}\n",
        str(uuid.UUID(ID).int),
    ],
)
def test_ids_that_never_reach_a_url(fake_services: FakeServices, upstreams: Upstreams, value: str) -> None:
    """Anything but a canonical UUID is refused before any call is made."""
    for client in (upstreams.customers, upstreams.employees, upstreams.vehicles):
        with pytest.raises(InvalidId):
            client.get(value, TOKEN)

    assert fake_services.total_calls() == 0
