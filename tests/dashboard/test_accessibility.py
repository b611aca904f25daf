"""The accessibility of the dashboard and of the start page, as axe judges it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask

from servease_appt.app import create_app
from servease_appt.cache import Mode
from servease_appt.container import EXTENSION
from servease_appt.dashboard.links import PATH, dashboard_link
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.axe import CHROMIUM, four_views, needs_axe, violations
from tests.support.chromium import Chromium
from tests.support.dataset import SECRET, Dataset
from tests.support.many_workers import many_workers
from tests.support.served import over_http, settings

OPEN_PANELS = """
document.getElementById("entity").value = "customer_%s";
for (const form of ["search", "list"]) document.getElementById(form).requestSubmit();
document.getElementById("examine").click();
"""
POLL = "document.dispatchEvent(new Event('visibilitychange'))"  # asks at once
PLANTED = """
const planted = document.createElement("p");
planted.append("Hardly to be read", document.createElement("input"));
planted.style.color = "light-dark(#ddd, #333)";
document.querySelector("main").append(planted);
"""


@pytest.fixture
def app(
    own_valkey: EmbeddedValkey,
    new_database: Callable[[str], str],
    migrated_template: str,
    fake_services: FakeServices,
) -> Iterator[Flask]:
    """An application whose Redis may be stopped."""
    given = settings(new_database(migrated_template), own_valkey.url(1), fake_services)
    app = create_app(Settings.from_mapping(given))
    yield app
    app.extensions[EXTENSION].close()


@needs_axe
def test_axe_finds_nothing_wrong_with_the_dashboard(
    app: Flask, own_valkey: EmbeddedValkey, fake_services: FakeServices, tmp_path: Path
) -> None:
    """In four views: before signing in, with all panels open, and without Redis. Also with 64 workers, and after
    the service has ended."""
    dataset = Dataset(app, fake_services)
    dataset.appointment()
    found: list[str] = []
    with ExitStack() as serving, Chromium(CHROMIUM or "", tmp_path / "profile") as browser:
        address = serving.enter_context(over_http(app))
        dataset.ada.get("/appointments/")  # the cache is first used, and begins to listen
        assert wait_until(lambda: dataset.container.lookups.cache.mode is Mode.BOTH, timeout_s=30)

        def check(state: str) -> None:
            for view in four_views(browser):
                found.extend(f"{state}, {view}: {wrong}" for wrong in violations(browser))

        browser.open(f"{address}{PATH}")
        browser.wait_for("!document.getElementById('login').hidden")
        check("no token")

        browser.open(f"{address}/")
        check("the start page")

        browser.open(dashboard_link(address, SECRET))
        browser.wait_for("document.querySelectorAll('#workers tbody tr').length === 1")
        browser.evaluate(OPEN_PANELS % dataset.alice_id)
        browser.evaluate("document.getElementById('watch').click()")
        for panel, row in (
            ("found", "tbody tr"),
            ("events", "tbody tr"),
            ("keys", "tbody tr"),
            ("findings", "li"),
        ):
            browser.wait_for(f"document.querySelector('#{panel} {row}') !== null")
        check("all panels")

        with many_workers(own_valkey.url(1), 63):
            browser.evaluate(POLL)
            browser.wait_for("document.querySelectorAll('#workers tbody tr').length === 64")
            found += violations(browser)

        own_valkey.stop()
        browser.evaluate(POLL)
        browser.wait_for("/Redis does not answer/.test(document.getElementById('workers-note').textContent)")
        browser.evaluate(OPEN_PANELS % dataset.alice_id)
        for panel in ("found", "keys", "events", "findings"):
            browser.wait_for(f"document.querySelector('#{panel} .bad') !== null")
        check("without Redis")

        serving.close()
        browser.evaluate(POLL)
        browser.wait_for("/Connection lost/.test(document.getElementById('contact').textContent)")
        found += violations(browser)

        browser.evaluate(PLANTED)
        planted = {text.partition(":")[0] for text in violations(browser)}

    assert not found, "\n".join(found)
    assert planted == {"color-contrast", "label"}
