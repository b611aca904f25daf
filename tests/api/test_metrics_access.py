"""Who may read `/metrics`, and under which spellings of its path."""

from collections.abc import Iterator

import pytest
from flask import Flask

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from tests.support.dataset import BASE, token

TOKEN = "scrape-me-0123456789"
SPELLINGS = ("/metrics", "/metrics/", f"{BASE}/metrics", f"{BASE}/metrics/")


@pytest.fixture(scope="module")
def guarded(environment: dict[str, str]) -> Iterator[Flask]:
    """The application with a token for its metrics."""
    app = create_app(Settings.from_mapping({**environment, "METRICS_TOKEN": TOKEN}))
    yield app
    app.extensions[EXTENSION].close()


@pytest.mark.parametrize("path", SPELLINGS)
@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (None, 401),
        ("Bearer ", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer \xe4", 401),
    ],
)
def test_the_token_is_needed_everywhere(
    guarded: Flask, path: str, authorization: str | None, status: int
) -> None:
    """Each spelling asks for it, and an error says how to send it."""
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = guarded.test_client().get(path, headers=headers)
    assert answer.status_code == status
    assert (b"servease_" in answer.data) == (status == 200)
    assert answer.headers.get("WWW-Authenticate") == (None if status == 200 else "Bearer")


def test_a_users_token_does_not_open_them(guarded: Flask) -> None:
    """Not even an admin's: Prometheus has no account."""
    bearer = {"Authorization": f"Bearer {token(user_role='admin')}"}
    assert guarded.test_client().get("/metrics", headers=bearer).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "//metrics",
        "///metrics",
        "/metrics//",
        "/METRICS",
        "/./metrics",
        "/x/../metrics",
        "/metrics;x",
        "/api/metrics",
        f"{BASE}//metrics",
    ],
)
def test_no_other_spelling_answers(app: Flask, path: str) -> None:
    """A proxy that hides the paths of the guide hides the metrics."""
    # Not as an argument: the client would take what follows two slashes for a host.
    answer = app.test_client().get("/", environ_overrides={"PATH_INFO": path})
    assert answer.status_code == 404
    assert b"servease_" not in answer.data


@pytest.mark.parametrize("path", ["//health/", "///docs", f"/{BASE}/appointments/", "//ops/cache/"])
def test_two_slashes_at_the_start_are_another_path(app: Flask, path: str) -> None:
    """Or a rule of a proxy for one path would not hold for the other."""
    answer = app.test_client().get("/", environ_overrides={"PATH_INFO": path})
    assert answer.status_code == 404


@pytest.mark.parametrize("path", SPELLINGS)
def test_without_a_token_they_are_open(app: Flask, path: str) -> None:
    """As Prometheus expects where nothing is set."""
    assert app.test_client().get(path).status_code == 200
