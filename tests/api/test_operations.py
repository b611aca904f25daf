"""Cache endpoints, health, and what is said when a server is away."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from redis import Redis

import servease_appt
from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey
from tests.support.dataset import BASE, Asker, Dataset, new_id, token


@pytest.mark.parametrize("entity", ["customer", "vehicle", "employee"])
def test_invalidation_counts_the_distinct_ids(dataset: Dataset, entity: str) -> None:
    """The same id in another case is the same; an id nobody has counts as well."""
    known, other = new_id(), new_id()
    answer = dataset.service.post(
        "/cache/invalidate/", {"entity": entity, "ids": [known, known.upper(), other]}
    )
    assert (answer.status_code, answer.get_json()) == (200, {"invalidated": 2})


def test_an_invalidated_name_is_asked_for_again(dataset: Dataset) -> None:
    """After the call the next page shows the new name."""
    path = f"/appointments/{dataset.appointment()}/"
    assert dataset.alice.get(path).get_json()["customer_name"] == "Alice Ant"
    dataset.fake_services.customers.put(
        {"id": dataset.alice_id, "full_name": "Alice Adder", "email": "a@example.com"}
    )
    assert dataset.alice.get(path).get_json()["customer_name"] == "Alice Ant"
    dataset.ada.post("/cache/invalidate/", {"entity": "customer", "ids": [dataset.alice_id]})
    assert dataset.alice.get(path).get_json()["customer_name"] == "Alice Adder"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"entity", "ids"}),
        ({"entity": "order", "ids": [new_id()]}, {"entity"}),
        ({"entity": ["customer"], "ids": [new_id()]}, {"entity"}),
        ({"entity": "customer", "ids": []}, {"ids"}),
        ({"entity": "customer", "ids": new_id()}, {"ids"}),
        ({"entity": "customer", "ids": ["*"]}, {"ids"}),
        ({"entity": "customer", "ids": [new_id(), 1]}, {"ids"}),
        ({"entity": "customer", "ids": [new_id()] * 1001}, {"ids"}),
    ],
)
def test_what_can_not_be_invalidated(dataset: Dataset, body: dict[str, object], fields: set[str]) -> None:
    """A wrong entity, no id, no UUID or more than 1,000 of them are named."""
    answer = dataset.service.post("/cache/invalidate/", body)
    assert (answer.status_code, set(answer.get_json())) == (400, fields)


def test_a_thousand_ids_are_taken(dataset: Dataset) -> None:
    """The limit itself is allowed."""
    answer = dataset.service.post(
        "/cache/invalidate/", {"entity": "vehicle", "ids": [new_id() for _ in range(1000)]}
    )
    assert answer.get_json() == {"invalidated": 1000}


def test_the_counters_are_json(dataset: Dataset) -> None:
    """Stats answer after pages were served, with this worker's and all workers' numbers."""
    dataset.appointment()
    dataset.alice.get("/appointments/")
    stats = dataset.ada.get("/cache/stats/").get_json()
    assert {"worker", "all_workers"} <= set(stats)
    assert "list_appointments" in stats["worker"]["endpoints"]


def test_health_touches_nothing(app: Flask) -> None:
    """The body is fixed, and is the same at the root."""
    expected = {"status": "healthy", "service": "appointment-service", "version": servease_appt.__version__}
    assert Asker(app, None).get("/health/").get_json() == expected
    assert app.test_client().get("/health/").get_json() == expected


def test_ready_names_each_part(app: Flask) -> None:
    """With PostgreSQL there it is 200; each part's state is one word."""
    answer = Asker(app, None).get("/health/ready/")
    assert answer.status_code == 200
    body = answer.get_json()
    assert body["status"] in {"ready", "degraded"}
    assert body["checks"]["database"] == "ok"
    assert set(body["checks"]) == {"database", "redis", "cache_mode"}


@pytest.fixture
def own_postgres(environment: dict[str, str]) -> Iterator[tuple[Flask, EmbeddedPostgres]]:
    """An application on a PostgreSQL server of its own, without tables."""
    with EmbeddedPostgres() as server:
        settings = Settings.from_mapping({**environment, "DATABASE_URL": server.create_database("away")})
        app = create_app(settings)
        yield app, server
        app.extensions[EXTENSION].close()


def test_without_postgres_the_service_says_so(own_postgres: tuple[Flask, EmbeddedPostgres]) -> None:
    """Every route that needs it is 503 with Retry-After and no inner detail; health stays 200, ready is 503."""
    app, server = own_postgres
    server.stop()
    admin, open_to_all = Asker(app, token(user_role="admin")), Asker(app, None)
    known = new_id()
    asked = [
        ("GET", "/appointments/"),
        ("GET", f"/appointments/{known}/"),
        ("PATCH", f"/appointments/{known}/"),
        ("DELETE", f"/appointments/{known}/"),
        ("POST", f"/appointments/{known}/confirm/"),
        ("GET", "/appointments/stats/"),
        ("GET", "/time-slots/"),
        ("GET", "/history/"),
    ]
    for method, path in asked:
        answer = admin.ask(method, path)
        assert answer.status_code == 503, path
        assert int(answer.headers["Retry-After"]) > 0
        assert set(answer.get_json()) == {"detail"}
        assert b"psycopg" not in answer.data
        assert b"127.0.0.1" not in answer.data
    assert open_to_all.get("/health/").status_code == 200
    ready = open_to_all.get("/health/ready/")
    assert (ready.status_code, ready.get_json()["status"]) == (503, "unavailable")
    assert ready.get_json()["checks"]["database"] == "unavailable"


def test_without_redis_pages_go_on_and_invalidations_say_so(
    environment: dict[str, str], own_valkey: EmbeddedValkey, dataset: Dataset
) -> None:
    """Names come from the services, ready is degraded with 200, an invalidation is 503 with Retry-After."""
    app = create_app(Settings.from_mapping({**environment, "REDIS_URL": own_valkey.url(1)}))
    own_valkey.stop()
    try:
        dataset.appointment()
        page = Asker(app, dataset.alice._headers["Authorization"][7:]).get("/appointments/").get_json()
        assert page["results"][0]["customer_name"] == "Alice Ant"
        answer = Asker(app, token(user_role="admin")).post(
            "/cache/invalidate/", {"entity": "customer", "ids": [dataset.alice_id]}
        )
        assert (answer.status_code, set(answer.get_json())) == (503, {"detail"})
        assert int(answer.headers["Retry-After"]) > 0
        ready = Asker(app, None).get("/health/ready/")
        assert (ready.status_code, ready.get_json()["status"]) == (200, "degraded")
        assert ready.get_json()["checks"]["redis"] == "unavailable"
    finally:
        app.extensions[EXTENSION].close()


def test_ready_names_redis_unavailable_before_any_read_has_failed(
    environment: dict[str, str], own_valkey: EmbeddedValkey
) -> None:
    """A worker that has had no request since Redis went down has not found out by itself."""
    app = create_app(Settings.from_mapping({**environment, "REDIS_URL": own_valkey.url(1)}))
    try:
        assert Asker(app, None).get("/health/ready/").get_json()["checks"]["redis"] == "ok"
        own_valkey.stop()
        ready = Asker(app, None).get("/health/ready/")
        assert (ready.status_code, ready.get_json()["status"]) == (200, "degraded")
        assert ready.get_json()["checks"]["redis"] == "unavailable"
    finally:
        app.extensions[EXTENSION].close()


@pytest.mark.parametrize(
    ("command", "cause"),
    [(("ACL", "SETUSER", "default", "-publish"), "NOPERM"), (("REPLICAOF", "127.0.0.1", "1"), "READONLY")],
    ids=["no right", "replica"],
)
def test_ready_is_degraded_while_redis_refuses_writes(
    environment: dict[str, str], own_valkey: EmbeddedValkey, command: tuple[str, ...], cause: str
) -> None:
    """Redis answers, so it is not unavailable; its word for the refusal is named, and no user or address."""
    app = create_app(Settings.from_mapping({**environment, "REDIS_URL": own_valkey.url(1)}))
    try:
        admin = Asker(app, token(user_role="admin"))
        body = {"entity": "customer", "ids": [new_id()]}
        assert admin.post("/cache/invalidate/", body).status_code == 200
        with Redis.from_url(own_valkey.url(1)) as client:
            client.execute_command(*command)
        assert admin.post("/cache/invalidate/", body).status_code == 503
        ready = Asker(app, None).get("/health/ready/")
        assert (ready.status_code, ready.get_json()["status"]) == (200, "degraded")
        checks = ready.get_json()["checks"]
        assert (checks["redis"], checks["redis_cause"]) == ("refuses", cause)
        with Redis.from_url(own_valkey.url(1)) as client:
            client.execute_command("ACL", "SETUSER", "default", "+@all")
            client.execute_command("REPLICAOF", "NO", "ONE")
        assert admin.post("/cache/invalidate/", body).status_code == 200
        assert "redis_cause" not in Asker(app, None).get("/health/ready/").get_json()["checks"]
    finally:
        app.extensions[EXTENSION].close()


def test_what_nobody_foresaw_stays_inside(
    environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error is a bare 500 in JSON; its text and stack go to the log, with the request's id."""
    app = create_app(Settings.from_mapping(environment))

    def broken() -> Any:
        raise RuntimeError("the secret of the house")

    app.view_functions["servease.health.healthy"] = broken
    try:
        with caplog.at_level(logging.ERROR):
            answer = app.test_client().get(f"{BASE}/health/", headers={"X-Request-Id": "trace-1"})
    finally:
        app.extensions[EXTENSION].close()
    assert (answer.status_code, set(answer.get_json())) == (500, {"detail"})
    assert b"secret" not in answer.data
    assert "trace-1" in caplog.text
    assert "the secret of the house" in caplog.text
