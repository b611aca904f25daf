"""The headers that tell browsers what an answer may do: on every answer, and HSTS where the request was secure."""

import pytest
from flask import Flask

from tests.support.dataset import BASE, Dataset

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
}
JSON_POLICY = "default-src 'none'; frame-ancestors 'none'"


def test_each_answer_has_them_once(dataset: Dataset) -> None:
    """Lists, details, errors of each kind, preflights and unknown paths, with and without a token."""
    known = dataset.appointment()
    answers = [
        dataset.ada.get("/appointments/"),
        dataset.ada.get(f"/appointments/{known}/"),
        dataset.nobody.get("/appointments/"),
        dataset.alice.delete(f"/appointments/{known}/"),
        dataset.ada.get("/nope/"),
        dataset.ada.ask("PURGE", "/appointments/"),
        dataset.nobody.ask("OPTIONS", "/appointments/"),
        dataset.nobody.get("/health/ready/"),
        dataset.nobody.get("/openapi.json"),
        dataset.nobody.get("/metrics"),
        dataset.ada.delete(f"/appointments/{known}/"),
    ]
    assert {answer.status_code for answer in answers} == {200, 204, 401, 403, 404, 405}
    for answer in answers:
        assert {name: answer.headers.getlist(name) for name in ALWAYS} == {
            name: [value] for name, value in ALWAYS.items()
        }
        assert answer.headers.getlist("Content-Security-Policy") == [JSON_POLICY]


@pytest.mark.parametrize("path", ["/docs", f"{BASE}/docs", "/ops/cache/"])
def test_pages_keep_their_own_policy(app: Flask, path: str) -> None:
    """A page loads its own files; nothing but that is allowed."""
    headers = app.test_client().get(path).headers
    (policy,) = headers.getlist("Content-Security-Policy")
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert {name: headers[name] for name in ALWAYS} == ALWAYS
    assert headers.getlist("Cache-Control") == ["no-store"]


def test_files_that_may_be_kept_say_so_once(app: Flask) -> None:
    """Files of a package hold nobody's data."""
    headers = app.test_client().get("/docs/page.js").headers
    (kept,) = headers.getlist("Cache-Control")
    assert kept.startswith("public")


@pytest.mark.parametrize(("scheme", "expected"), [("https", ["max-age=31536000"]), ("http", [])])
@pytest.mark.parametrize("path", ["/health/", "/docs", "/nope", f"{BASE}/appointments/"])
def test_https_is_required_from_then_on_where_it_was_used(
    app: Flask, path: str, scheme: str, expected: list[str]
) -> None:
    """Over plain HTTP the header would mean nothing, and browsers ignore it."""
    answer = app.test_client().get(path, base_url=f"{scheme}://appointments.example")
    assert answer.headers.getlist("Strict-Transport-Security") == expected
