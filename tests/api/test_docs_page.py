"""The page that tries the API: from local files only, and at work in a real browser."""

import re
from pathlib import Path

import pytest
from flask import Flask

from tests.support.chromium import Chromium, find_chromium
from tests.support.dataset import BASE, Dataset

CHROMIUM = find_chromium()


@pytest.mark.parametrize("prefix", ["", BASE])
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_page_comes_from_here_alone(app: Flask, prefix: str, slash: str) -> None:
    """Page, style and scripts are local files, and the policy would allow no others and no inline script."""
    client = app.test_client()
    page = client.get(f"{prefix}/docs{slash}")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    named = re.findall(r'(?:src|href|data-document)="([^"]*)"', page.text)
    local = {address for address in named if address.startswith(f"{BASE}/")}
    assert set(named) - local == {"data:,"}
    assert {client.get(address).status_code for address in local} == {200}
    assert "http" not in page.text
    assert 'name="viewport"' in page.text
    assert not re.search(r"<script(?![^>]*src=)|style=|\son\w+=", page.text)


def test_the_files_of_the_page_may_be_kept(app: Flask) -> None:
    """A browser keeps the large script for an hour; the page and the document are read each time."""
    client = app.test_client()
    for name in ("page.css", "page.js", "accessibility.js", "swagger-ui-bundle.js", "swagger-ui.css"):
        assert client.get(f"{BASE}/docs/{name}").headers["Cache-Control"] == "public, max-age=3600"
    for path in ("/docs", "/openapi.json"):
        assert client.get(f"{BASE}{path}").headers["Cache-Control"] == "no-store"


def test_the_start_page_links_to_pages_that_answer(app: Flask) -> None:
    """`/` names the API's page, its document, the dashboard and health; under a proxy's path, below that."""
    client = app.test_client()
    page = client.get("/")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    links = re.findall(r'<a href="([^"]*)"', page.text)
    assert links == ["/docs", "/openapi.json", "/ops/cache/", "/health/", "/health/ready/"]
    assert {client.get(link).status_code for link in links} == {200}
    mounted = client.get("/", environ_overrides={"SCRIPT_NAME": "/garage"})
    assert '<a href="/garage/docs">' in mounted.text
    assert client.post("/").status_code == 405


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
def test_the_page_in_a_browser(address: str, dataset: Dataset, tmp_path: Path) -> None:
    """A link opens its operation; the dialog takes the focus and gives it back; a token outlives the page; a
    request is sent and shown as curl."""
    dataset.appointment()
    bearer = dataset.erin._headers["Authorization"].removeprefix("Bearer ")
    listing = "#operations-Appointments-listAppointments"
    with Chromium(CHROMIUM or "", tmp_path / "profile") as browser:
        browser.open(f"{address}/docs#/Appointments/listAppointments")
        browser.wait_for(f"document.querySelector('{listing} button.execute') !== null")
        assert browser.evaluate("document.querySelectorAll('.opblock').length") > 30

        browser.evaluate("document.querySelector('button.authorize').click()")
        browser.wait_for("document.activeElement.matches('.auth-container input')")
        browser.evaluate(
            "const field = document.querySelector('.auth-container input');"
            "Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set"
            f".call(field, '{bearer}');"
            "field.dispatchEvent(new Event('input', { bubbles: true }));"
            "document.querySelector('.auth-btn-wrapper button[type=submit]').click()"
        )
        browser.wait_for("localStorage.getItem('authorized') !== null")
        browser.evaluate("document.querySelector('.btn-done').click()")
        browser.wait_for("document.activeElement.matches('button.authorize')")

        browser.open(f"{address}/docs?again#/Appointments/listAppointments")
        browser.wait_for(f"document.querySelector('{listing} button.execute') !== null")
        browser.wait_for("document.body.innerText.includes('Signed in as')")
        answer = f"document.querySelector('{listing} .live-responses-table')"
        # A click is lost while Swagger UI draws the operation again, as it does after it has read the token.
        browser.wait_for(
            f"{answer} !== null || (document.querySelector('{listing} button.execute')?.click(), false)"
        )
        browser.wait_for(f"{answer} !== null && {answer}.innerText.includes('Alice Ant')")
        curl = browser.evaluate(f"document.querySelector('{listing} .request-snippets').innerText")
        assert f"{address}/api/v1/appointments/" in curl
        assert f"Authorization: Bearer {bearer}" in curl
        assert browser.complaints == []
        assert all(asked.startswith((address, "data:")) for asked in browser.requests)
