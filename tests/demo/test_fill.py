"""What compose's profile `demo` fills in, on real servers."""

import re

import pytest

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.demo import fill
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from tests.support.served import settings


def test_it_fills_in_once_and_prints_tokens_that_are_let_in(
    migrated_postgres_url: str,
    redis_url: str,
    fake_services: FakeServices,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second run finds the rows; the page shows names of the fake services."""
    environment = settings(migrated_postgres_url, redis_url, fake_services)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app = create_app(Settings.from_mapping(environment))
    counts = []
    try:
        for _ in range(2):
            fill.main("http://localhost:8005", "http://localhost:8002")
            said = capsys.readouterr().out
            (admin,) = re.findall(r"^export ADMIN=(\S+)$", said, re.MULTILINE)
            headers = {"Authorization": f"Bearer {admin}"}
            page = app.test_client().get("/api/v1/appointments/", headers=headers).get_json()
            counts.append(page["count"])
        assert counts[0] == counts[1] > 100
        assert {row["customer_name"] for row in page["results"]} != {"Unknown"}
        assert "http://localhost:8005/api/v1/appointments/" in said
        assert "http://localhost:8002/__control" in said
    finally:
        app.extensions[EXTENSION].close()
