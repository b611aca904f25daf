"""The accessibility of the API's page, as axe judges it."""

from pathlib import Path

from tests.support.axe import CHROMIUM, four_views, needs_axe, violations
from tests.support.chromium import Chromium
from tests.support.dataset import Dataset

LISTING, CANCELLING = (
    "#operations-Appointments-listAppointments",
    "#operations-Appointment_actions-cancelAppointment",
)
FIELD_SET = """
((field, text) => {
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(field, text);
  field.dispatchEvent(new Event("input", { bubbles: true }));
})(document.querySelector("%s"), "%s")
"""
EVERYTHING_SHOWN = f"""
document.documentElement.classList.contains("dark-mode") === matchMedia("(prefers-color-scheme: dark)").matches
  && document.querySelector("{LISTING} .live-responses-table") !== null
  && document.querySelector("{CANCELLING} .json-schema-2020-12") !== null
"""
PLANTED = """
document.querySelector(".examples-select-element").removeAttribute("aria-label");
document.querySelector(".opblock-summary-control").append(document.createElement("select"));
"""


@needs_axe
def test_axe_finds_nothing_wrong_with_the_page(address: str, dataset: Dataset, tmp_path: Path) -> None:
    """In four views: the list, the dialog for the token, an operation with its answer, one with its schemas."""
    dataset.appointment()
    bearer = dataset.erin._headers["Authorization"].removeprefix("Bearer ")
    found: list[str] = []
    with Chromium(CHROMIUM or "", tmp_path / "profile") as browser:
        browser.open(f"{address}/docs#/Appointments/listAppointments")
        browser.wait_for(f"document.querySelector('{LISTING} button.execute') !== null")
        browser.evaluate(FIELD_SET % (".operation-filter-input", "Appointment"))
        browser.wait_for("document.querySelectorAll('.opblock').length < 30")
        browser.evaluate("document.querySelector('button.authorize').click()")
        browser.wait_for("document.activeElement.matches('.auth-container input')")
        browser.evaluate(FIELD_SET % (".auth-container input", bearer))
        browser.evaluate("document.querySelector('.auth-btn-wrapper button[type=submit]').click()")
        browser.wait_for("/Signed in as employee/.test(document.querySelector('.signed-in').textContent)")
        browser.evaluate(f"document.querySelector('{LISTING} button.execute').click()")
        browser.evaluate(f"document.querySelector('{CANCELLING} .opblock-summary-control').click()")
        browser.wait_for(f"document.querySelectorAll('{CANCELLING} .tablinks').length > 1")
        browser.evaluate(
            f"[...document.querySelectorAll('{CANCELLING} .tablinks')].filter(({{textContent}}) =>"
            " textContent === 'Schema').forEach((tab) => tab.click())"
        )
        for view in four_views(browser):
            browser.wait_for(EVERYTHING_SHOWN)
            if browser.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{view}: the page is wider than its window")
            found += [f"{view}: {wrong}" for wrong in violations(browser)]

        browser.evaluate(PLANTED)
        planted = {text.partition(":")[0] for text in violations(browser, LISTING)}

    assert not found, "\n".join(found)
    assert planted == {"nested-interactive", "select-name"}
