"""The accessibility of the dashboard and of the start page, as axe judges it."""

from collections.abc import Callable
from pathlib import Path

from servease_appt.dashboard.links import PATH, dashboard_link
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.axe import CHROMIUM, four_views, needs_axe, violations
from tests.support.chromium import Chromium
from tests.support.dataset import SECRET
from tests.support.many_workers import many_workers
from tests.support.served import serve, settings

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


@needs_axe
def test_axe_finds_nothing_wrong_with_the_dashboard(
    own_valkey: EmbeddedValkey,
    new_database: Callable[[str], str],
    migrated_template: str,
    fake_services: FakeServices,
    tmp_path: Path,
) -> None:
    """In four views: before signing in, with all panels open, with 2 workers, and without Redis. Also with 64
    workers, and after the service has ended."""
    environment = settings(new_database(migrated_template), own_valkey.url(1), fake_services)
    found: list[str] = []
    with (
        serve(environment, fake_services, tmp_path) as served,
        Chromium(CHROMIUM or "", tmp_path / "profile") as browser,
    ):
        served.wait_for_metric(r'servease_cache_mode\{mode="both"\}', 2)
        served.dataset.appointment()
        served.get("/api/v1/appointments/")

        def check(state: str) -> None:
            for view in four_views(browser):
                found.extend(f"{state}, {view}: {wrong}" for wrong in violations(browser))

        browser.open(served.gunicorn.url + PATH)
        browser.wait_for("!document.getElementById('login').hidden")
        check("no token")

        browser.open(f"{served.gunicorn.url}/")
        check("the start page")

        browser.open(dashboard_link(served.gunicorn.url, SECRET))
        browser.wait_for("document.querySelectorAll('#workers tbody tr').length === 2")
        browser.evaluate(OPEN_PANELS % served.dataset.alice_id)
        browser.evaluate("document.getElementById('watch').click()")
        browser.wait_for("document.querySelectorAll('#found tbody tr').length === 2")
        for panel, row in (("events", "tbody tr"), ("keys", "tbody tr"), ("findings", "li")):
            browser.wait_for(f"document.querySelector('#{panel} {row}') !== null")
        check("two workers")

        with many_workers(own_valkey.url(1), 62):
            browser.evaluate(POLL)
            browser.wait_for("document.querySelectorAll('#workers tbody tr').length === 64")
            browser.look(width=1366, height=900, dark=False)
            found += violations(browser)

        own_valkey.stop()
        browser.evaluate(POLL)
        browser.wait_for("/Redis does not answer/.test(document.getElementById('workers-note').textContent)")
        browser.wait_for("document.querySelectorAll('#workers tbody tr').length === 1")
        browser.evaluate(OPEN_PANELS % served.dataset.alice_id)
        for panel in ("found", "keys", "events", "findings .bad"):
            browser.wait_for(f"document.querySelector('#{panel} .bad, #{panel}.bad') !== null")
        check("without Redis")

        served.gunicorn.stop()
        browser.evaluate(POLL)
        browser.wait_for("/Connection lost/.test(document.getElementById('contact').textContent)")
        found += violations(browser)

        browser.evaluate(PLANTED)
        planted = {text.partition(":")[0] for text in violations(browser)}

    assert not found, "\n".join(found)
    assert planted == {"color-contrast", "label"}
