"""What the dashboard's page says when the service answers with an error."""

from pathlib import Path

import pytest
from flask import Flask, Response
from flask.typing import ResponseReturnValue

from servease_appt.container import EXTENSION
from servease_appt.dashboard.blueprint import DASHBOARD, dashboard_views
from servease_appt.dashboard.links import dashboard_link
from tests.support.chromium import Chromium, find_chromium
from tests.support.dataset import SECRET
from tests.support.served import over_http

CHROMIUM = find_chromium()
CONTACT = "document.getElementById('contact').textContent"
TOO_MANY = {"detail": "Too many requests; come back later."}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
def test_an_error_is_told_from_a_lost_connection(without_redis: Flask, tmp_path: Path) -> None:
    """The page shows the service's sentence, or the status of an answer without one, and recovers by itself."""
    answers: list[ResponseReturnValue] = []
    without_redis.extensions[DASHBOARD] = dashboard_views(
        without_redis.extensions[EXTENSION], lambda: answers[0] if answers else None
    )
    shown = []
    with over_http(without_redis) as address, Chromium(CHROMIUM or "", tmp_path / "profile") as browser:
        browser.open(dashboard_link(address, SECRET))
        browser.wait_for(f"{CONTACT}.startsWith('Live, ')")
        for answer in ((TOO_MANY, 429), Response("<h1>Bad Gateway</h1>", 502)):
            answers[:] = [answer]
            browser.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # asks at once
            browser.wait_for(f"{CONTACT}.includes('. Last update')")
            shown.append(browser.evaluate(f"{CONTACT}.split(' Last update')[0]"))
            answers.clear()
            browser.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            browser.wait_for(f"{CONTACT}.startsWith('Live, ')")

    assert shown == ["Too many requests; come back later.", "The service answered with the status 502."]
