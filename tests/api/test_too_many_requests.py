"""A caller with too many requests gets 429, and everybody else their answer."""

from collections.abc import Iterator

import pytest
from flask import Flask

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from tests.support.dataset import BASE, Dataset


@pytest.fixture
def strict(environment: dict[str, str], fake_services: FakeServices) -> Iterator[Dataset]:
    """The application with low limits, under a key prefix of its own."""
    low = {"RATE_LIMIT_PER_MINUTE": "20", "RATE_LIMIT_COSTLY_PER_MINUTE": "10", "CACHE_KEY_PREFIX": "strict"}
    app: Flask = create_app(Settings.from_mapping({**environment, **low}))
    yield Dataset(app, fake_services)
    app.extensions[EXTENSION].close()


def test_a_caller_is_told_when_to_come_back(strict: Dataset, redis_url: str) -> None:
    """Beyond the limit: 429 in JSON with Retry-After. Other callers and open routes are not affected."""
    answers = [strict.alice.get("/history/") for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert len(refused) == 20 - 11
    assert refused[0].json == {"detail": "Too many requests; come back later."}
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
    assert strict.alice.get("/appointments/").status_code == 200, "a limit of its own"
    assert strict.bob.get("/history/").status_code == 200
    assert strict.app.test_client().get(f"{BASE}/health/").status_code == 200
