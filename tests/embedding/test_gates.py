"""Gates of a host: whatever answers before the API does so as it would before a page of the host's."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, got_request_exception, redirect, request
from flask_limiter import ExemptionScope, Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager, current_user
from flask_talisman import Talisman
from flask_wtf import CSRFProtect
from werkzeug.test import TestResponse

from servease_appt import ServEase
from tests.embedding.conftest import BOOK, HEALTH, PREFIX, Prepare


def csrf(host: Flask) -> None:
    """Refuse what changes something without a token."""
    CSRFProtect(host)


def limiter(host: Flask) -> None:
    """Let nothing through."""
    Limiter(get_remote_address, app=host, default_limits=["1 per hour"], storage_uri="memory://")


def talisman(host: Flask) -> None:
    """Redirect to HTTPS."""
    Talisman(host)


def login(host: Flask) -> None:
    """Let only those in who have logged in."""
    manager = LoginManager(host)
    manager.user_loader(lambda _: None)

    @host.before_request
    def wall() -> Any:
        return None if current_user.is_authenticated else manager.unauthorized()


def login_page(host: Flask) -> None:
    """Redirect to the page to log in."""
    host.before_request(lambda: redirect("/login"))


def maintenance(host: Flask) -> None:
    """Be closed, as a default page says."""
    host.before_request(lambda: abort(503))


def maintenance_page(host: Flask) -> None:
    """Be closed, as a page of the host's says."""
    host.errorhandler(503)(lambda _: ("<h1>back at noon</h1>", 503))
    host.before_request(lambda: abort(503))


def catch_all(host: Flask) -> None:
    """Fail, with one page for all failures."""
    host.errorhandler(Exception)(lambda error: (f"<h1>{type(error).__name__}</h1>", 418))
    host.before_request(lambda: abort(403))


def broken(host: Flask) -> None:
    """Raise, as a hook does whose database is down."""
    host.before_request(_raise)


def broken_with_page(host: Flask) -> None:
    """Raise, with a page of the host's for that."""
    host.errorhandler(500)(lambda _: ("<h1>sorry</h1>", 500))
    host.before_request(_raise)


def own_response(host: Flask) -> None:
    """Abort with a finished response."""
    host.before_request(lambda: abort(Response("no", 451)))


def _raise() -> Any:
    raise RuntimeError("the host's database is down")


GATES = [
    csrf,
    limiter,
    talisman,
    login,
    login_page,
    maintenance,
    maintenance_page,
    catch_all,
    broken,
    broken_with_page,
    own_response,
]


def _page_of_the_host(host: Flask) -> None:
    """Offer the two paths without us."""
    page = Blueprint("page", __name__, url_prefix=PREFIX)
    page.add_url_rule("/health/", "health", lambda: "healthy")
    page.add_url_rule("/appointments/", "book", lambda: "booked", methods=["POST"])
    host.register_blueprint(page)


def _second_answers(host: Flask) -> list[tuple[int, dict[str, str], bytes]]:
    """Ask twice each: the second request is the one that a limiter refuses."""
    host.logger.disabled = True
    answers = []
    for method, path in (("GET", HEALTH), ("POST", BOOK)):
        client = host.test_client()
        client.open(path, method=method)
        answer = client.open(path, method=method)
        # A nonce is a new one each time, and a reset is a moment.
        headers = {name: value for name, value in answer.headers.items() if "Security-Policy" not in name}
        answers.append((answer.status_code, headers, answer.data))
    return answers


@pytest.mark.parametrize("gate", GATES, ids=[gate.__name__ for gate in GATES])
def test_a_gate_answers_as_before_a_page_of_the_host(
    gate: Prepare, new_host: Callable[..., Flask], embedded: Callable[..., Flask]
) -> None:
    """Status, headers and body are those without the service: nothing of ours is added or replaced."""
    without = new_host(gate)
    _page_of_the_host(without)

    expected = _second_answers(without)
    answers = _second_answers(embedded(gate))

    closed = [index for index, (status, _, _) in enumerate(expected) if status not in (200, 401)]
    assert closed or gate is login
    for index, answer in enumerate(answers):
        if index in closed or gate is login:
            assert answer == expected[index]


def test_a_gate_of_a_blueprint_around_ours_answers_too(new_host: Callable[..., Flask]) -> None:
    """A host's blueprint that ours is nested in has hooks and error pages of its own."""

    def gate(outer: Blueprint) -> None:
        outer.before_request(lambda: abort(403))
        outer.errorhandler(403)(lambda _: ("<h1>the office is closed</h1>", 403))

    outer = Blueprint("outer", __name__)
    gate(outer)
    outer.register_blueprint(ServEase().blueprint(), url_prefix="/api")
    host = new_host()
    host.register_blueprint(outer, url_prefix="/garage")

    answer = host.test_client().get(HEALTH)

    assert (answer.status_code, answer.text) == (403, "<h1>the office is closed</h1>")


def test_what_a_gate_answers_is_not_measured_as_ours(embedded: Callable[..., Flask]) -> None:
    """It has no route of ours and took none of our time."""
    host = embedded(maintenance)
    host.test_client().get(HEALTH)

    assert (
        "servease_http_request_duration_seconds_count{"
        not in host.extensions["servease"].metrics.text().decode()
    )


def _post(host: Flask) -> TestResponse:
    return host.test_client().post(BOOK, json={})


def test_csrf_is_lifted_for_every_blueprint(new_host: Callable[..., Flask]) -> None:
    """The API takes bearer tokens and no cookies: there is nothing that another site could use."""
    servease, protect = ServEase(), CSRFProtect()
    host = new_host(protect.init_app)
    servease.init_app(host, url_prefix=PREFIX, dashboard=True)
    assert _post(host).status_code == 400

    for blueprint in servease.blueprints:
        protect.exempt(blueprint)

    assert _post(host).status_code == 401
    assert host.test_client().post(f"{PREFIX}/cache/invalidate/").status_code == 401
    assert host.test_client().post(f"{PREFIX}/ops/cache/session", json={"code": "x"}).status_code == 401
    assert host.test_client().post(f"{PREFIX}/appointments/a/b/c").status_code == 404


@pytest.mark.parametrize("how", ["each", "with descendants"])
def test_a_limit_is_lifted(new_host: Callable[..., Flask], how: str) -> None:
    """Each blueprint is exempt on its own, or the outermost one with its descendants."""
    servease = ServEase()
    limits = Limiter(get_remote_address, default_limits=["1 per hour"], storage_uri="memory://")
    host = new_host(limits.init_app)
    servease.init_app(host, url_prefix=PREFIX)
    if how == "each":
        for blueprint in servease.blueprints:
            limits.exempt(blueprint)
    else:
        limits.exempt(servease.blueprint(), flags=ExemptionScope.DEFAULT | ExemptionScope.DESCENDENTS)

    client = host.test_client()

    assert [client.get(HEALTH).status_code for _ in range(3)] == [200] * 3


def test_a_login_wall_can_leave_the_api_out(new_host: Callable[..., Flask]) -> None:
    """Our requests have their own tokens; `request.blueprints` tells them apart."""
    servease = ServEase()

    def wall(host: Flask) -> None:
        manager = LoginManager(host)
        manager.user_loader(lambda _: None)

        @host.before_request
        def check() -> Any:
            if "servease" in request.blueprints or current_user.is_authenticated:
                return None
            return manager.unauthorized()

    host = new_host(wall)
    host.add_url_rule("/office", view_func=lambda: "office")
    servease.init_app(host, url_prefix=PREFIX)

    assert host.test_client().get("/office").status_code == 401
    assert host.test_client().get(HEALTH).status_code == 200
    assert host.test_client().get(BOOK).get_json() == {
        "detail": "Authentication credentials were not provided."
    }


@pytest.fixture
def unexpected() -> Iterator[list[BaseException]]:
    """What the receivers of Flask's signal are sent."""
    seen: list[BaseException] = []

    def note(_sender: object, exception: BaseException, **_: object) -> None:
        seen.append(exception)

    with got_request_exception.connected_to(note):
        yield seen


def test_an_unexpected_error_of_ours_is_sent_to_error_trackers(
    embedded: Callable[..., Flask], unexpected: list[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Sentry and others listen to Flask's signal; the client gets our answer all the same."""
    host = embedded(TESTING=True)
    error = RuntimeError("inner")

    def fail() -> Any:
        raise error

    host.view_functions["servease.health.healthy"] = fail
    with caplog.at_level(logging.CRITICAL, "servease_appt.api.errors"):
        answer = host.test_client().get(HEALTH)

    assert (answer.status_code, set(answer.get_json())) == (500, {"detail"})
    assert unexpected == [error]


def test_a_receiver_that_fails_does_not_change_the_answer(
    embedded: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged."""
    host = embedded()

    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError("inner")

    host.view_functions["servease.health.healthy"] = fail
    with got_request_exception.connected_to(fail, host):
        answer = host.test_client().get(HEALTH)

    assert (answer.status_code, set(answer.get_json())) == (500, {"detail"})
    assert "A receiver of got_request_exception failed" in caplog.text


def test_errors_of_ours_are_not_sent(embedded: Callable[..., Flask], unexpected: list[BaseException]) -> None:
    """A wrong token or path is no fault of the service."""
    client = embedded().test_client()
    client.get(BOOK)
    client.get(f"{PREFIX}/health/nope")

    assert unexpected == []


def test_requests_within_one_application_context_have_ids_of_their_own(
    embedded: Callable[..., Flask],
) -> None:
    """A test that holds a context open makes several requests within it."""
    host = embedded()
    with host.app_context():
        client = host.test_client()
        first, second = (client.get(HEALTH).headers["X-Request-Id"] for _ in range(2))

    assert first != second


def test_an_http_error_of_a_hook_that_runs_after_ours_is_answered_by_us(
    embedded: Callable[..., Flask],
) -> None:
    """A view decorator of the host's, put around a view of ours, raises within the API."""
    host = embedded()

    def refuse(**_: object) -> Any:
        abort(403)

    host.view_functions["servease.health.healthy"] = refuse

    assert host.test_client().get(HEALTH).get_json() == {"detail": "You may not do this."}
