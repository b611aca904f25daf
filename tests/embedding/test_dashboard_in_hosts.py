"""The dashboard in a host: below the prefix, for admins, behind a guard of the host's if it has one."""

from collections.abc import Callable

from flask import Flask, abort

from servease_appt import ServEase
from servease_appt.dashboard.blueprint import SCRIPTS
from tests.embedding.conftest import PREFIX
from tests.support.dataset import token

PAGE = f"{PREFIX}/ops/cache/"


def _data(host: Flask, role: str) -> int:
    headers = {"Authorization": f"Bearer {token(user_role=role)}"}
    return host.test_client().get(f"{PAGE}data", headers=headers).status_code


def test_there_is_none_unless_asked_for(embedded: Callable[..., Flask]) -> None:
    """Neither below the prefix nor at the root."""
    client = embedded().test_client()

    assert client.get(PAGE).status_code == 404
    assert client.get("/ops/cache/").status_code == 404


def test_it_is_below_the_prefix_for_admins(new_host: Callable[..., Flask]) -> None:
    """Its files are where the page looks for them; its answers have our headers and errors."""
    host = new_host()
    ServEase().init_app(host, url_prefix=PREFIX, dashboard=True)
    client = host.test_client()

    page = client.get(PAGE)
    assert f'src="{PAGE}page.js"' in page.text
    assert {client.get(f"{PAGE}{name}.js").status_code for name in SCRIPTS} == {200}
    headers = {"Authorization": f"Bearer {token(user_role='admin')}"}
    examined = client.post(f"{PAGE}doctor", json={}, headers=headers)
    assert "redis" in {found["area"] for found in examined.get_json()["findings"]}
    assert client.get(f"{PAGE}keys", headers=headers).get_json().keys() == {"rows", "cursor"}
    assert client.get("/ops/cache/").status_code == 404
    assert (_data(host, "admin"), _data(host, "employee")) == (200, 403)
    refused = client.get(f"{PAGE}data")
    assert (refused.status_code, refused.mimetype) == (401, "application/json")
    assert refused.headers["X-Content-Type-Options"] == "nosniff"


def test_the_command_prints_its_address(new_host: Callable[..., Flask]) -> None:
    """The link has the prefix and opens the page once."""
    host = new_host()
    ServEase().init_app(host, url_prefix=PREFIX, dashboard=True)

    link = host.test_cli_runner().invoke(args=["servease", "cache", "dashboard", "--url", "http://h/"]).stdout

    assert link.startswith(f"http://h{PAGE}#code=")
    code = link.strip().partition("#code=")[2]
    opened = host.test_client().post(f"{PAGE}session", json={"code": code})
    assert opened.status_code == 200


def test_a_guard_of_the_host_is_asked_first(new_host: Callable[..., Flask]) -> None:
    """None lets in, anything else is the answer; the token is needed all the same."""
    closed = True

    def guard() -> tuple[str, int] | None:
        return ("closed", 423) if closed else None

    host = new_host()
    ServEase().init_app(host, url_prefix=PREFIX, dashboard=guard)

    assert (host.test_client().get(PAGE).status_code, _data(host, "admin")) == (423, 423)
    closed = False
    assert (host.test_client().get(PAGE).status_code, _data(host, "admin")) == (200, 200)
    assert _data(host, "customer") == 403


def test_a_guard_may_abort(new_host: Callable[..., Flask]) -> None:
    """As any hook of Flask's."""
    host = new_host()
    ServEase().init_app(host, url_prefix=PREFIX, dashboard=lambda: abort(404))

    assert host.test_client().get(PAGE).status_code == 404
    assert host.test_client().get(f"{PREFIX}/health/").status_code == 200
