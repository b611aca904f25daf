"""Paths and methods: with and without the slash, what is not offered, and what every answer carries."""

import pytest
from flask import Flask

from servease_appt.api import RESOURCES
from tests.api.conftest import ORIGIN
from tests.api.test_permissions import ROWS
from tests.support.dataset import BASE, Dataset, new_id, token

ROUTES = [(route.method, route.path) for resource in RESOURCES for route in resource.routes]
PATHS = sorted({path for _, path in ROUTES})
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PURGE")


def _filled(path: str) -> str:
    return path.split("<", maxsplit=1)[0] + new_id() + path.split(">")[1] if "<" in path else path


@pytest.mark.parametrize("route", ROWS, ids=[f"{method} {path}" for method, path in ROWS])
def test_the_slash_makes_no_difference(dataset: Dataset, route: tuple[str, str]) -> None:
    """Both forms of each path give the same status, and neither is a redirect."""
    method, _ = route
    row = ROWS[route]
    statuses = []
    for slash in ("/", ""):
        path, body = row.request(dataset)
        bare, question, query = path.partition("?")
        answer = dataset.ada.ask(method, bare.rstrip("/") + slash + question + query, json=body)
        statuses.append(answer.status_code)
    assert statuses[0] == statuses[1] == int(row.statuses.split()[4])


@pytest.mark.parametrize("slash", ["/", ""])
@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_405_with_allow(app: Flask, path: str, slash: str) -> None:
    """A method that a path does not offer is a 405 in JSON that names those it does."""
    offered = {method for method, offering in ROUTES if offering == path}
    allowed = offered | {"OPTIONS"} | ({"HEAD"} if "GET" in offered else set())
    for method in set(METHODS) - offered:
        answer = app.test_client().open(BASE + _filled(path).rstrip("/") + slash, method=method)
        assert answer.status_code == 405, method
        assert set(answer.headers["Allow"].split(", ")) == allowed
        assert set(answer.get_json()) == {"detail"}


@pytest.mark.parametrize("path", PATHS)
def test_options_name_the_methods(app: Flask, path: str) -> None:
    """OPTIONS needs no token, tells the methods and nothing else."""
    answer = app.test_client().options(BASE + _filled(path))
    assert (answer.status_code, answer.data) == (204, b"")
    assert "OPTIONS" in answer.headers["Allow"]


def test_head_is_checked_as_get(dataset: Dataset) -> None:
    """HEAD needs the same token as GET and answers without a body."""
    path = f"/appointments/{dataset.appointment()}/"
    assert dataset.nobody.ask("HEAD", path).status_code == 401
    assert dataset.bob.ask("HEAD", path).status_code == 404
    answer = dataset.alice.ask("HEAD", path)
    assert (answer.status_code, answer.data) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        f"{BASE}",
        f"{BASE}/",
        f"{BASE}/nope/",
        f"{BASE}/appointments/a/b/c/",
        f"{BASE}//appointments/",
        f"{BASE}/appointments/%2e%2e/health/",
        f"{BASE}/appointments/../../etc/passwd",
        f"{BASE}/time-slots/42f45027-12f9-426a-9b81-fa7cbccef1e3/nope",
        f"{BASE}/health/nope",
        f"{BASE}/docs/../page.html",
        f"{BASE}/docs/page.html",
    ],
)
def test_unknown_paths_are_404_in_json(app: Flask, path: str) -> None:
    """Nothing unknown is a redirect, another object or an HTML page."""
    answer = app.test_client().get(path, headers={"Authorization": f"Bearer {token(user_role='admin')}"})
    assert (answer.status_code, answer.get_json()) == (404, {"detail": "Not found."})


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "x" * 300,
        "{id}",
        "%00",
        "%7Bid%7D",
        "urn:uuid:{id}",
        "{plain}",
        "{id};x",
        "..",
        "%F0%9F%9A%97",
        "{id}%0A",
    ],
)
def test_an_id_that_is_no_uuid_is_404(dataset: Dataset, text: str) -> None:
    """Ids in paths have one spelling, in either case; anything else is as unknown as a missing id."""
    known = dataset.appointment()
    path = text.replace("{id}", known).replace("{plain}", known.replace("-", ""))
    answer = dataset.ada.get(f"/appointments/{path}/")
    assert (answer.status_code == 200) == (text == "{id}")
    assert answer.status_code in {200, 404}
    assert dataset.ada.get(f"/appointments/{known.upper()}/").get_json()["id"] == known


def test_answers_are_not_to_be_kept_or_guessed(dataset: Dataset) -> None:
    """Personal answers say no-store and that they depend on the token; types are not to be sniffed."""
    for asker in (dataset.alice, dataset.nobody):
        headers = asker.get("/appointments/").headers
        assert headers["Cache-Control"] == "no-store"
        assert "Authorization" in headers["Vary"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Type"] == "application/json"


def test_a_harmless_request_id_is_echoed(dataset: Dataset) -> None:
    """A caller's id of letters, digits and dashes comes back."""
    answer = dataset.alice.get("/appointments/", headers={"X-Request-Id": "Trace-42"})
    assert answer.headers["X-Request-Id"] == "Trace-42"


@pytest.mark.parametrize("hostile", ["", "a" * 65, "a b", "<script>", "ä", "a_b", "x\tfoo"])
def test_a_hostile_request_id_is_replaced(dataset: Dataset, hostile: str) -> None:
    """Whatever could harm a log is replaced by an id of our own, a new one each time."""
    ids = {
        dataset.alice.get("/appointments/", headers={"X-Request-Id": hostile}).headers["X-Request-Id"]
        for _ in range(2)
    }
    assert len(ids) == 2
    assert all(len(made) == 32 and made.isalnum() for made in ids)


def test_listed_origins_may_read(app: Flask) -> None:
    """A preflight and an answer for a listed origin carry the CORS headers, for this origin only."""
    client = app.test_client()
    preflight = client.options(
        f"{BASE}/appointments/{new_id()}/",
        headers={"Origin": ORIGIN, "Access-Control-Request-Method": "PATCH"},
    )
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    answer = client.get(f"{BASE}/appointments/", headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "X-Total-Count" in answer.headers["Access-Control-Expose-Headers"]
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "*", f"{ORIGIN}.evil.example", ORIGIN.upper()]
)
def test_other_origins_may_not(app: Flask, origin: str) -> None:
    """For any other origin there is no CORS header at all."""
    answer = app.test_client().options(
        f"{BASE}/appointments/", headers={"Origin": origin, "Access-Control-Request-Method": "GET"}
    )
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
