"""Inside somebody else's application: under any prefix, and everything else as it was."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, jsonify
from flask.json.provider import DefaultJSONProvider

from servease_appt.app import install
from servease_appt.container import EXTENSION
from tests.api.conftest import ORIGIN
from tests.support.dataset import Dataset, new_id, token

PREFIX = "/garage/booking"


class HostJSON(DefaultJSONProvider):
    """A provider that nobody could mistake for ours."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Return JSON with the host's mark."""
        return super().dumps({"host": obj}, **kwargs)


@pytest.fixture
def host(environment: dict[str, str]) -> Iterator[Flask]:
    """A host with pages, error pages, a catch-all error handler and a JSON provider of its own."""
    host = Flask("host")
    host.json = HostJSON(host)
    host.config.update(environment)
    shop = Blueprint("shop", __name__, url_prefix="/shop")

    @shop.get("/")
    def shelf() -> Any:
        return jsonify(["bread"])

    @shop.get("/broken/")
    def broken() -> Any:
        raise RuntimeError("shop")

    @shop.get("/forbidden/")
    def forbidden() -> Any:
        abort(403)

    @host.get(f"{PREFIX}/brochure/")
    def brochure() -> str:
        return "a page of the host's under our prefix"

    @host.errorhandler(404)
    def lost(_: Exception) -> Any:
        return "<h1>the host's 404</h1>", 404

    @host.errorhandler(400)
    def bad(_: Exception) -> Any:
        return "<h1>the host's 400</h1>", 400

    @host.errorhandler(Exception)
    def failed(_: Exception) -> Any:
        return "<h1>the host's error page</h1>", 418

    host.register_blueprint(shop)
    install(host, PREFIX, settings=environment)
    yield host
    host.extensions[EXTENSION].close()


def _as(role: str, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user_role=role, **claims)}"}


def test_the_api_works_under_the_prefix(host: Flask, dataset: Dataset) -> None:
    """Lists, details and links are there, with our JSON and our headers."""
    appointment_id = dataset.appointment()
    client = host.test_client()
    page = client.get(f"{PREFIX}/appointments?page_size=1", headers=_as("admin"))
    assert page.get_json()["results"][0]["id"] == appointment_id
    dataset.appointment()
    following = client.get(f"{PREFIX}/appointments/?page_size=1", headers=_as("admin")).get_json()["next"]
    assert following.startswith(f"http://localhost{PREFIX}/appointments/?")
    body = json.dumps(dataset.booking())  # the client's `json=` would go through the host's provider
    booked = client.post(
        f"{PREFIX}/appointments/", data=body, content_type="application/json", headers=_as("admin")
    )
    assert booked.status_code == 201, booked.data
    assert booked.headers["Location"].startswith(f"{PREFIX}/appointments/")
    assert booked.headers["X-Content-Type-Options"] == "nosniff"


def test_the_commands_are_under_a_name_of_ours(host: Flask) -> None:
    """Those that read and steer work as they do alone; the dashboard, which is not here, is not linked to."""
    run = host.test_cli_runner().invoke

    done = run(args=["servease", "cache", "keys", "--json"])
    assert (done.exit_code, done.stderr) == (0, "")
    refused = run(args=["servease", "cache", "dashboard"])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "no dashboard" in refused.stderr


def test_document_and_page_know_the_prefix(host: Flask) -> None:
    """The document's server and the page's files are below it; nothing of ours is at the root."""
    client = host.test_client()
    assert client.get(f"{PREFIX}/openapi.json").get_json()["servers"] == [{"url": PREFIX}]
    assert f'src="{PREFIX}/docs/page.js"' in client.get(f"{PREFIX}/docs").text
    mounted = client.get(f"{PREFIX}/openapi.json", environ_overrides={"SCRIPT_NAME": "/app"})
    assert mounted.get_json()["servers"] == [{"url": f"/app{PREFIX}"}]
    for path in ("/docs", "/openapi.json", "/health/", "/metrics", "/api/v1/health/"):
        assert client.get(path).text == "<h1>the host's 404</h1>"


def test_our_errors_are_json_all_the_same(host: Flask, dataset: Dataset) -> None:
    """The host's handlers for 404 and for Exception do not get hold of our errors."""
    client = host.test_client()
    known = dataset.appointment()
    asked: list[tuple[str, str, dict[str, Any], int]] = [
        ("GET", "/appointments/", {}, 401),
        ("GET", f"/appointments/{known}/", {"headers": _as("service")}, 403),
        ("GET", f"/appointments/{new_id()}/", {"headers": _as("admin")}, 404),
        ("GET", "/appointments/a/b/c", {}, 404),
        ("GET", "/time-slots/a/b", {}, 404),
        ("GET", "/cache/nope/", {}, 404),
        ("PUT", "/appointments/", {}, 405),
        ("PURGE", "/history/", {}, 405),
        (
            "POST",
            "/appointments/",
            {"headers": _as("admin"), "data": b"{", "content_type": "application/json"},
            400,
        ),
        (
            "POST",
            "/appointments/",
            {"headers": _as("admin"), "data": b"x", "content_type": "text/plain"},
            415,
        ),
        ("POST", "/appointments/", {"headers": _as("admin"), "data": b" " * 2_000_000}, 413),
    ]
    for method, path, given, status in asked:
        answer = client.open(PREFIX + path, method=method, **given)
        assert (answer.status_code, answer.mimetype) == (status, "application/json"), path
        assert "host" not in answer.get_json()
    assert "GET" in client.put(f"{PREFIX}/appointments/").headers["Allow"]
    cut_off = client.post(
        f"{PREFIX}/appointments/",
        input_stream=io.BytesIO(b"{}"),
        content_type="application/json",
        headers=_as("admin"),
        environ_overrides={"CONTENT_LENGTH": "99"},
    )
    assert (cut_off.status_code, cut_off.mimetype) == (400, "application/json")


def test_unexpected_errors_of_ours_stay_ours(host: Flask) -> None:
    """Even what nobody foresaw is answered by us, not by the host's page."""

    def broken() -> Any:
        raise RuntimeError("inner")

    host.view_functions["servease.health.healthy"] = broken
    answer = host.test_client().get(f"{PREFIX}/health/")
    assert (answer.status_code, answer.mimetype) == (500, "application/json")


def test_the_hosts_pages_are_left_alone(host: Flask) -> None:
    """Its routes, its JSON, its error pages and its headers are as without us."""
    client = host.test_client()
    shelf = client.get("/shop/", headers={"Origin": ORIGIN})
    assert shelf.get_json() == {"host": ["bread"]}
    for header in ("X-Request-Id", "Cache-Control", "Vary", "Access-Control-Allow-Origin"):
        assert header not in shelf.headers
    assert client.get("/shop").status_code == 308
    assert client.get("/shop/nope/").text == "<h1>the host's 404</h1>"
    assert client.get("/shop/broken/").text == "<h1>the host's error page</h1>"
    assert client.get("/shop/forbidden/").status_code == 418
    assert client.post("/shop/").status_code == 418
    assert "OPTIONS" in client.options("/shop/").headers["Allow"]


def test_the_hosts_part_of_the_prefix_is_left_alone(host: Flask) -> None:
    """A page of the host's below our prefix works, and unknown addresses outside our trees are the host's."""
    client = host.test_client()
    assert client.get(f"{PREFIX}/brochure/").status_code == 200
    assert client.get(f"{PREFIX}/brochure").status_code == 308
    assert client.get(f"{PREFIX}/nope/").text == "<h1>the host's 404</h1>"


def test_nothing_of_the_host_is_changed(environment: dict[str, str]) -> None:
    """Handlers, hooks, JSON provider, logging and settings are the same objects after the call."""
    host = Flask("host")
    host.config.update(environment)
    provider, config = host.json, dict(host.config)
    root = logging.getLogger()
    logging_before = (list(root.handlers), root.level, root.disabled)
    install(host, PREFIX, settings=environment)
    try:
        assert host.json is provider
        assert dict(host.config) == config
        assert not host.error_handler_spec.get(None)
        assert not host.before_request_funcs.get(None)
        assert not host.after_request_funcs.get(None)
        assert not host.teardown_request_funcs.get(None)
        assert not host.teardown_appcontext_funcs
        assert host.url_map.merge_slashes
        assert host.url_map.strict_slashes
        assert (list(root.handlers), root.level, root.disabled) == logging_before
    finally:
        host.extensions[EXTENSION].close()


@pytest.mark.parametrize("prefix", ["", "/", "/a/b/c", "/a/"])
def test_any_prefix_will_do(environment: dict[str, str], prefix: str) -> None:
    """The root, a slash at the end and several steps are all fine."""
    host = Flask("host")
    host.config.update(environment)
    install(host, prefix, settings=environment)
    try:
        client = host.test_client()
        base = prefix.rstrip("/")
        assert client.get(f"{base}/health").status_code == 200
        assert client.put(f"{base}/appointments").get_json() == {"detail": "This method is not allowed here."}
        assert client.get(f"{base}/appointments/a/b/c/d").get_json() == {"detail": "Not found."}
        assert client.get(f"{base}/openapi.json").get_json()["servers"] == [{"url": base or "/"}]
    finally:
        host.extensions[EXTENSION].close()
