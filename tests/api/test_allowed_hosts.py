"""ALLOWED_HOSTS: which `Host` a request may have, and so which names the links of a page can show."""

from collections.abc import Iterator

import pytest
from flask import Flask

from servease_appt.api.routing import host_allowed
from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from tests.support.dataset import BASE, Dataset, token

ALLOWED = "api.example.com, .garage.example"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("api.example.com", True),
        ("API.example.com:8005", True),
        ("garage.example", True),
        ("eu.api.garage.example", True),
        ("evil.example", False),
        ("api.example.com.evil.example", False),
        ("notgarage.example", False),
        ("x.api.example.com", False),
        ("api.example.com@evil.example", False),
        ("", False),
    ],
)
def test_which_hosts_are_allowed(host: str, allowed: bool) -> None:
    """A name is compared whole, without its port; one with a dot before it stands for names below it as well."""
    assert host_allowed(host, ("api.example.com", ".garage.example")) is allowed
    assert host_allowed(host, ())


@pytest.fixture(scope="module")
def guarded(environment: dict[str, str]) -> Iterator[Flask]:
    """The application with a list of hosts."""
    app = create_app(Settings.from_mapping({**environment, "ALLOWED_HOSTS": ALLOWED}))
    yield app
    app.extensions[EXTENSION].close()


def test_links_show_allowed_hosts_only(guarded: Flask, dataset: Dataset) -> None:
    """A request with another host gets nothing but an error, which does not repeat it."""
    for _ in range(2):
        dataset.appointment()
    client = guarded.test_client()
    bearer = {"Authorization": f"Bearer {token(user_role='admin')}"}
    path = f"{BASE}/appointments/?page_size=1"
    page = client.get(path, headers={**bearer, "Host": "eu.garage.example:81"}).get_json()
    assert page["next"] == f"http://eu.garage.example:81{path}&page=2"
    for method in ("GET", "POST"):
        refused = client.open(path, method=method, headers={**bearer, "Host": "evil.example"})
        assert (refused.status_code, refused.get_json()) == (
            400,
            {"detail": ["This host is not served here."]},
        )


@pytest.mark.parametrize("path", ["/health/", "/health/ready/", "/metrics", "/docs", "/openapi.json"])
def test_probes_may_use_any_address(guarded: Flask, path: str) -> None:
    """A probe calls a container by its address. What it gets repeats no host."""
    answer = guarded.test_client().get(path, headers={"Host": "evil.example"})
    assert answer.status_code == 200
    assert b"evil" not in answer.data
    assert "evil" not in str(answer.headers)
