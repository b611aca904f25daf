"""The application's own tests: they know nothing of the appointment service, and pass with it as without.

GARAGE_DATABASE_URL=postgresql+psycopg2://… GARAGE_MODULE=garage_with_appointments pytest examples/host
"""

import os
import re
from collections.abc import Iterator
from importlib import import_module

import pytest
from flask import Flask
from flask.testing import FlaskClient
from garage import cache, db

CONFIG = {
    "SECRET_KEY": "a-key-for-tests",
    "PASSWORD": "spanner",
    "SQLALCHEMY_DATABASE_URI": os.environ["GARAGE_DATABASE_URL"],
    "CACHE_TYPE": "SimpleCache",
    "CACHE_KEY_PREFIX": "garage",
    **{name: value for name, value in os.environ.items() if name.startswith("SERVEASE_")},
}


@pytest.fixture
def app() -> Iterator[Flask]:
    """The application with an empty table of parts."""
    app: Flask = import_module(os.environ.get("GARAGE_MODULE", "garage")).create_app(CONFIG)
    with app.app_context():
        db.drop_all()
        db.create_all()
        cache.clear()
    yield app
    with app.app_context():
        db.session.remove()
        db.drop_all()
        db.engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Somebody who has not logged in."""
    return app.test_client()


@pytest.fixture
def mechanic(client: FlaskClient) -> FlaskClient:
    """Somebody who has."""
    client.post("/login", data={"password": "spanner"})
    return client


def _token(page: str) -> str:
    found = re.search(r'name="csrf_token" type="hidden" value="([^"]+)"', page)
    assert found
    return found[1]


def test_the_list_is_empty_at_first(client: FlaskClient) -> None:
    """And it is a page of the application's."""
    answer = client.get("/")
    assert (answer.text, answer.headers["X-Garage"]) == ("<ul></ul>", "yes")
    assert "X-Request-Id" not in answer.headers


def test_a_new_part_needs_a_login(client: FlaskClient) -> None:
    """Others are sent to the login page, and come back."""
    answer = client.get("/parts/new")
    assert (answer.status_code, answer.location) == (302, "/login?next=%2Fparts%2Fnew")


def test_a_part_is_added(mechanic: FlaskClient) -> None:
    """The list, which was cached, shows it."""
    assert mechanic.get("/").text == "<ul></ul>"
    form = {"csrf_token": _token(mechanic.get("/parts/new").text), "name": "Oil filter", "price": "12"}
    assert mechanic.post("/parts/new", data=form).status_code == 302
    assert mechanic.get("/").text == "<ul><li>Oil filter: 12</li></ul>"


def test_without_a_csrf_token_nothing_is_added(mechanic: FlaskClient) -> None:
    """Another site can't post the form."""
    answer = mechanic.post("/parts/new", data={"name": "Oil filter", "price": "12"})
    assert (answer.status_code, "CSRF" in answer.text) == (400, True)
    assert mechanic.get("/").text == "<ul></ul>"


def test_an_incomplete_form_is_shown_again(mechanic: FlaskClient) -> None:
    """Nothing is added."""
    form = {"csrf_token": _token(mechanic.get("/parts/new").text), "name": "Oil filter"}
    assert mechanic.post("/parts/new", data=form).status_code == 400


def test_passwords_can_not_be_tried_without_end(client: FlaskClient) -> None:
    """The sixth attempt within a minute is refused."""
    answers = [client.post("/login", data={"password": "x"}).status_code for _ in range(6)]
    assert answers[-1] == 429


def test_errors_are_in_the_garages_words(app: Flask, client: FlaskClient) -> None:
    """For what is not there, and for what fails."""
    assert client.get("/engine").text == "<h1>We don't have that</h1>"
    app.view_functions["parts"] = lambda: 1 / 0
    assert client.get("/").text == "<h1>Out of order</h1>"


def test_json_has_the_applications_order(client: FlaskClient) -> None:
    """Its own provider writes it."""
    assert client.get("/me").data == b'{"user":null}\n'
