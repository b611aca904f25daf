"""Security headers in a host: on our answers alone, and none that binds the whole host name."""

from collections.abc import Callable

from flask import Flask

from tests.embedding.conftest import HEALTH


def test_answers_of_the_host_have_none_of_ours(embedded: Callable[..., Flask]) -> None:
    """A page of the host, its 404, and an answer of its gate under our prefix stay as they were."""
    host = embedded()
    host.add_url_rule("/shop", "shop", lambda: "the shop")
    client = host.test_client()
    ours = client.get(HEALTH).headers
    assert ours["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    host.before_request_funcs.setdefault(None, []).append(lambda: ("closed", 503))
    plain = {"Content-Type", "Content-Length"}
    closed = client.get(HEALTH)
    assert (closed.status_code, {name for name, _ in closed.headers}) == (503, plain)
    host.before_request_funcs[None].clear()
    for path in ("/shop", "/nowhere"):
        assert {name for name, _ in client.get(path).headers} == plain


def test_https_is_for_the_host_to_require(embedded: Callable[..., Flask]) -> None:
    """Browsers would use HTTPS for every page of the host, not for the API's alone."""
    answer = embedded().test_client().get(HEALTH, base_url="https://garage.example")
    assert answer.status_code == 200
    assert "Strict-Transport-Security" not in answer.headers
