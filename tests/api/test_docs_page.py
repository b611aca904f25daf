"""The page that tries the API, in a real browser."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.serving import make_server

from tests.support.chromium import Chromium, find_chromium
from tests.support.dataset import Dataset

CHROMIUM = find_chromium()


@pytest.fixture
def address(app: Flask) -> Iterator[str]:
    """Where a browser finds the application."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
def test_the_page_in_a_browser(address: str, dataset: Dataset, tmp_path: Path) -> None:
    """It shows every operation, fills in a body that names words and formats, and sends a request."""
    dataset.appointment()
    with Chromium(CHROMIUM or "", tmp_path / "profile") as browser:
        browser.open(f"{address}/docs")
        browser.wait_for("document.querySelectorAll('#routes details').length > 30")
        document = json.loads(
            browser.evaluate(f"fetch('{address}/api/v1/openapi.json').then((answer) => answer.text())")
        )
        operations = sum(len(item) for item in document["paths"].values())
        assert browser.evaluate("document.querySelectorAll('#routes details').length") == operations

        browser.evaluate(
            "document.querySelectorAll('#routes details').forEach((card) => { card.open = true; })"
        )
        browser.wait_for("document.getElementById('bookAppointment-body') !== null")
        body = json.loads(browser.evaluate("document.getElementById('bookAppointment-body').value"))
        assert (body["appointment_type"], body["scheduled_time"]) == ("maintenance", "10:00:00")
        shown = browser.evaluate(
            "document.getElementById('bookAppointment-body').closest('form').querySelector('table').innerText"
        )
        assert "maintenance, repair, inspection, diagnostic, emergency" in shown
        assert "undefined" not in browser.evaluate("document.getElementById('routes').innerText")
        options = "document.querySelectorAll('#listAppointments-query-status option').length"
        assert browser.evaluate(options) == 7

        bearer = dataset.erin._headers["Authorization"].removeprefix("Bearer ")
        browser.evaluate(f"document.getElementById('token').value = '{bearer}'")
        form = "document.getElementById('listAppointments-query-page').closest('form')"
        browser.evaluate(f"{form}.requestSubmit()")
        browser.wait_for(f"{form}.querySelector('pre').textContent.includes('Alice Ant')")
        assert browser.complaints == []
        assert all(asked.startswith((address, "data:")) for asked in browser.requests)
