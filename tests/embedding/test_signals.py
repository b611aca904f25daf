"""Signals: a host's code is told of what has happened, and can't undo it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from servease_appt import invalidate_vehicle_cache
from servease_appt.signals import appointment_changed, reference_invalidated
from servease_appt.testing.fake_services import FakeServices
from tests.embedding.conftest import PREFIX
from tests.support.dataset import Dataset, new_id, token, weekday


@pytest.fixture
def host(embedded: Callable[..., Flask]) -> Flask:
    """A host with the service."""
    return embedded()


@pytest.fixture
def dataset(host: Flask, fake_services: FakeServices) -> Dataset:
    """People, cars and empty tables."""
    dataset = Dataset(host, fake_services)
    dataset.clear()
    return dataset


@pytest.fixture
def changes() -> Iterator[list[tuple[object, str, str]]]:
    """What `appointment_changed` tells: sender, id and change."""
    told: list[tuple[object, str, str]] = []

    def note(sender: object, *, appointment_id: str, change: str, **_: object) -> None:
        told.append((sender, appointment_id, change))

    with appointment_changed.connected_to(note):
        yield told


def _ask(host: Flask, dataset: Dataset, method: str, path: str, body: object = None) -> Any:
    headers = {"Authorization": f"Bearer {token(user_role='admin', user_id=dataset.ada_id)}"}
    return host.test_client().open(f"{PREFIX}{path}", method=method, json=body or {}, headers=headers)


def test_each_change_is_announced_once(
    host: Flask, dataset: Dataset, changes: list[tuple[object, str, str]]
) -> None:
    """With its word, and the application as the sender; what was refused is not."""
    booked = _ask(host, dataset, "POST", "/appointments/", dataset.booking()).get_json()["id"]
    path = f"/appointments/{booked}/"
    moved = {"new_date": weekday(9).isoformat(), "new_time": "10:00"}
    for method, below, body in (
        ("PATCH", "", {"customer_notes": "Squeaks"}),
        ("POST", "reschedule/", moved),
        ("POST", "assign/", {"employee_id": dataset.erin_id}),
        ("POST", "confirm/", None),
        ("POST", "confirm/", None),  # refused: it is confirmed already
        ("POST", "start/", None),
        ("POST", "complete/", None),
        ("DELETE", "", None),
        ("DELETE", "", None),  # refused: it is gone
    ):
        _ask(host, dataset, method, path + below, body)

    words = [
        "booked",
        "edited",
        "rescheduled",
        "assigned",
        "confirmed",
        "in_progress",
        "completed",
        "deleted",
    ]
    assert changes == [(host, booked, word) for word in words]


def test_the_same_answer_again_announces_nothing(
    host: Flask, dataset: Dataset, changes: list[tuple[object, str, str]]
) -> None:
    """A repeated request with an idempotency key has changed nothing."""
    headers = {
        "Idempotency-Key": new_id(),
        "Authorization": f"Bearer {token(user_role='admin', user_id=new_id())}",
    }
    body = dataset.booking()
    answers = [
        host.test_client().post(f"{PREFIX}/appointments/", json=body, headers=headers) for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert len(changes) == 1


def test_a_receiver_that_raises_changes_nothing(
    host: Flask, dataset: Dataset, changes: list[tuple[object, str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the client gets its answer, and the other receivers are called."""

    def fail(_sender: object, **_: object) -> None:
        raise RuntimeError("the host's mail server is down")

    with appointment_changed.connected_to(fail):
        answer = _ask(host, dataset, "POST", "/appointments/", dataset.booking())

    assert answer.status_code == 201
    assert len(changes) == 1
    assert "A receiver of the signal appointment-changed failed" in caplog.text


def test_invalidations_are_announced(host: Flask, dataset: Dataset) -> None:
    """From HTTP and from code, with canonical ids."""
    told: list[tuple[object, str, tuple[str, ...]]] = []

    def note(sender: object, *, entity: str, ids: tuple[str, ...], **_: object) -> None:
        told.append((sender, entity, ids))

    with reference_invalidated.connected_to(note):
        _ask(
            host,
            dataset,
            "POST",
            "/cache/invalidate/",
            {"entity": "customer", "ids": [dataset.alice_id.upper(), dataset.bob_id]},
        )
        with host.app_context():
            invalidate_vehicle_cache(dataset.alices_car)

    assert [(sender, entity, sorted(ids)) for sender, entity, ids in told] == [
        (host, "customer", sorted([dataset.alice_id, dataset.bob_id])),
        (host, "vehicle", [dataset.alices_car]),
    ]


def test_receivers_of_one_application_are_not_told_of_another(
    embedded: Callable[..., Flask], host: Flask, dataset: Dataset
) -> None:
    """The sender tells applications apart."""
    told: list[object] = []
    with appointment_changed.connected_to(lambda sender, **_: told.append(sender), embedded()):
        assert _ask(host, dataset, "POST", "/appointments/", dataset.booking()).status_code == 201

    assert told == []


def test_a_command_announces_what_it_has_invalidated(host: Flask) -> None:
    """To the receivers of its own process, once for each entity."""
    vehicles, customer = [new_id(), new_id()], new_id()
    told: list[tuple[object, str, tuple[str, ...]]] = []

    def note(sender: object, *, entity: str, ids: tuple[str, ...], **_: object) -> None:
        told.append((sender, entity, ids))

    words = ["vehicle", *vehicles, "customer", customer]
    with reference_invalidated.connected_to(note):
        done = host.test_cli_runner().invoke(args=["servease", "cache", "invalidate", *words])

    assert done.exit_code == 0, done.output
    assert told == [(host, "vehicle", tuple(vehicles)), (host, "customer", (customer,))]
