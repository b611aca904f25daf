"""`python -m servease_appt.demo.fill BASE_URL CUSTOMERS_URL`: data for a service that compose has started.

Writes the demo's appointments into the database of the settings, unless it has some, puts the people and vehicles
into the fake services at the URLs of the settings, and prints curl lines with tokens, for the service at BASE_URL
and the fake customer service at CUSTOMERS_URL: the addresses for a shell outside.
"""

import json
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import create_engine, text

from servease_appt.demo.report import demo_tokens, invitation
from servease_appt.demo.sample_data import DemoData
from servease_appt.settings import Settings

_TOKEN_LIFETIME = timedelta(hours=12)
_ATTEMPTS = 50
_PAUSE_S = 0.2


def main(base_url: str, customers_url: str) -> None:
    """Fill in and print. Raises OSError if a fake service is not reached within 10 s."""
    settings = Settings.from_environment()
    data = DemoData.make(datetime.now(UTC), settings.business_timezone)
    if _is_empty(settings.database_url):
        data.insert(settings.database_url)
    put(settings.customer_service_url, data.people.customers)
    put(settings.employee_service_url, data.people.employees)
    put(settings.vehicle_service_url, data.people.vehicles)
    tokens = demo_tokens(settings.secret_key, data, _TOKEN_LIFETIME)
    exports = [f"export {role.upper()}={token}" for role, token in tokens.items()]
    lines = invitation(base_url, {role: f"${role.upper()}" for role in tokens}, data, customers_url)
    print(*exports, "", *lines, f"\nThe API to try out: {base_url}/docs", sep="\n", flush=True)


def _is_empty(database_url: str) -> bool:
    engine = create_engine(database_url)
    try:
        with engine.connect() as connection:
            return not connection.execute(text("SELECT EXISTS (SELECT FROM appointments)")).scalar_one()
    finally:
        engine.dispose()


def put(url: str, entries: list[dict[str, Any]]) -> None:
    """Put entries into the fake service at `url`, which may still be starting."""
    body = json.dumps({"do": "put", "entries": entries}).encode()
    for attempt in range(_ATTEMPTS):
        try:
            with urllib.request.urlopen(f"{url}/__control", body, timeout=5):  # noqa: S310 - from the settings
                return
        except OSError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
