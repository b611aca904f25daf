"""Write the pictures of the dashboard in `docs/`, as `make screenshots` does.

The service runs with the demo's data under some load, on servers of its own. Chromium must be installed.
"""

import argparse
import contextlib
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from servease_appt.dashboard.links import dashboard_link
from servease_appt.db.migrate import upgrade
from servease_appt.demo.report import demo_tokens
from servease_appt.demo.sample_data import DemoData
from servease_appt.demo.web import API, Connection, start_service
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey, free_port
from tests.support.chromium import Chromium, find_chromium

ROOT = Path(__file__).parents[2]
PAUSE_S = 0.02


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=120, help="how long the service has load first (120)"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--into", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    program = find_chromium()
    if program is None:
        sys.exit("No Chromium is installed (Debian: apt-get install chromium)")
    with (
        tempfile.TemporaryDirectory() as directory,
        _service(Path(directory), arguments.workers, arguments.seconds) as (link, vehicle),
        Chromium(program, Path(directory) / "profile") as browser,
    ):
        _take(browser, link, vehicle, arguments.into)


def _take(browser: Chromium, link: str, vehicle: str, into: Path) -> None:
    browser.look(width=1280, height=860, dark=False)
    browser.open(link)
    browser.wait_for("document.querySelectorAll('#workers tbody tr').length > 0")
    browser.wait_for("document.querySelectorAll('.chart svg path').length > 0")
    browser.picture(into / "dashboard.png")
    browser.evaluate(
        f"document.getElementById('entity').value = '{vehicle}';"
        "document.getElementById('search').requestSubmit()"
    )
    browser.wait_for("document.querySelectorAll('#found tbody tr').length > 0")
    browser.evaluate("document.querySelector('#search').closest('section').scrollIntoView()")
    browser.picture(into / "dashboard-workers.png")
    browser.evaluate("document.getElementById('examine').click()")
    browser.wait_for("document.querySelectorAll('#findings li').length > 0")
    browser.evaluate("document.getElementById('examine').closest('section').scrollIntoView()")
    browser.picture(into / "dashboard-doctor.png")
    browser.evaluate("scrollTo(0, 0)")
    browser.look(width=390, height=844, dark=True)
    browser.wait_for("document.querySelector('.chart svg').viewBox.baseVal.width < 390")
    browser.picture(into / "dashboard-phone.png")


@contextlib.contextmanager
def _service(directory: Path, workers: int, seconds: float) -> Iterator[tuple[str, str]]:
    """Yield a link to the dashboard of a service under load, and the id of a vehicle that is cached."""
    with (
        EmbeddedPostgres(directory / "postgres") as postgres,
        EmbeddedValkey(directory / "valkey") as valkey,
        FakeServices(directory, delay_s=0.02) as fake_services,
        contextlib.ExitStack() as running,
    ):
        environment = {
            "SECRET_KEY": secrets.token_urlsafe(48),
            "DATABASE_URL": postgres.create_database("screenshots"),
            "REDIS_URL": valkey.url(1),
            **fake_services.settings,
        }
        settings = Settings.from_mapping(environment)
        upgrade(settings.database_url)
        data = DemoData.make(datetime.now(UTC), settings.business_timezone)
        data.insert(settings.database_url)
        fake_services.customers.put(*data.people.customers)
        fake_services.employees.put(*data.people.employees)
        fake_services.vehicles.put(*data.people.vehicles)
        port = free_port()
        service = start_service(ROOT, directory, port, environment, workers=workers)
        running.callback(service.stop)
        admin = demo_tokens(settings.secret_key, data, timedelta(hours=1))["admin"]
        stop = threading.Event()
        load = threading.Thread(target=_load, args=(port, admin, stop))
        load.start()
        running.callback(load.join)
        running.callback(stop.set)
        time.sleep(seconds)
        vehicle = str(data.people.vehicles[0]["id"])
        yield dashboard_link(f"http://127.0.0.1:{port}", settings.secret_key), vehicle


def _load(port: int, admin: str, stop: threading.Event) -> None:
    """Read pages one after the other, each on a connection of its own, so that all workers have work."""
    number = 0
    while not stop.wait(PAUSE_S):
        number += 1
        with Connection(port, admin) as connection:
            connection.get(f"{API}/appointments/?limit=50&page={number % 5 + 1}")


if __name__ == "__main__":
    main()
