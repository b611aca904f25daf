"""How a host takes the service in: by `init_app`, as a blueprint, several times, or not at all."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask

import servease_appt
from servease_appt import ServEase
from servease_appt.app import install
from servease_appt.container import EXTENSION
from servease_appt.settings import SettingsError
from tests.embedding.conftest import HEALTH, PREFIX
from tests.support.dataset import token

ADMIN = {"Authorization": f"Bearer {token(user_role='admin')}"}


def _state(host: Flask) -> tuple[object, ...]:
    """Everything of an application that an extension could change."""
    return (
        [str(rule) for rule in host.url_map.iter_rules()],
        sorted(host.view_functions),
        sorted(host.blueprints),
        {name: id(value) for name, value in host.extensions.items() if value != []},
        sorted(host.cli.commands),
        dict(host.config),
        {name: list(map(id, hooks)) for name, hooks in host.before_request_funcs.items() if hooks},
        {name: list(map(id, hooks)) for name, hooks in host.after_request_funcs.items() if hooks},
        sorted(map(str, host.error_handler_spec)),
        id(host.json),
    )


def test_a_blueprint_brings_its_parts_along(new_host: Callable[..., Flask]) -> None:
    """Without `init_app` they are made when it is registered."""
    host = new_host()
    host.register_blueprint(ServEase().blueprint(), url_prefix="/x")

    client = host.test_client()

    assert client.get("/x/appointments", headers=ADMIN).status_code == 200
    assert client.get("/x/openapi.json").get_json()["servers"] == [{"url": "/x"}]
    assert client.get("/x/appointments/a/b/c").get_json() == {"detail": "Not found."}
    assert "servease" in host.cli.commands


def test_it_can_be_in_two_places(new_host: Callable[..., Flask]) -> None:
    """Both share the parts, and each links to itself."""
    servease, host = ServEase(), new_host()
    servease.init_app(host, url_prefix=PREFIX)
    host.register_blueprint(servease.blueprint(), url_prefix="/x")

    client = host.test_client()

    for prefix in (PREFIX, "/x"):
        assert client.get(f"{prefix}/openapi.json").get_json()["servers"] == [{"url": prefix}]
        assert client.put(f"{prefix}/appointments").status_code == 405


def test_the_place_can_be_left_to_a_blueprint_of_the_host(new_host: Callable[..., Flask]) -> None:
    """`init_app` gives the parts, with connections of the host's, say; the host registers the rest."""
    servease, host = ServEase(), new_host()
    servease.init_app(host, url_prefix=None)
    assert host.test_client().get("/health/").status_code == 404
    outer = Blueprint("outer", __name__, url_prefix="/outer")
    outer.register_blueprint(servease.blueprint(), url_prefix="/inner")
    host = new_host()
    servease.init_app(host, url_prefix=None)
    host.register_blueprint(outer)

    client = host.test_client()

    assert client.get("/outer/inner/health").status_code == 200
    assert client.get("/outer/inner/openapi.json").get_json()["servers"] == [{"url": "/outer/inner"}]
    assert client.delete("/outer/inner/health/").get_json() == {"detail": "This method is not allowed here."}


def test_a_subdomain_is_kept_to(new_host: Callable[..., Flask]) -> None:
    """All routes are there, the catch-all ones too, and none elsewhere."""
    host = Flask("host", subdomain_matching=True)
    host.config.update(new_host().config, SERVER_NAME="garage.example")
    host.register_blueprint(ServEase().blueprint(), url_prefix="/api", subdomain="desk")
    client = host.test_client()
    try:
        for path, status in (("/api/health/", 200), ("/api/health/nope", 404)):
            there = client.get(path, base_url="http://desk.garage.example")
            elsewhere = client.get(path, base_url="http://garage.example")
            assert (there.status_code, there.mimetype) == (status, "application/json")
            assert (elsewhere.status_code, elsewhere.mimetype) == (404, "text/html")
    finally:
        host.extensions[EXTENSION].close()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"url_prefix": "/<tenant>/api"}, "url_prefix='/<tenant>/api' can't be used"),
        ({"url_prefix": "garage"}, "url_prefix='garage' can't be used"),
        ({"url_prefix": "/x", "subdomain": "<tenant>"}, "subdomain='<tenant>' can't be used"),
    ],
)
def test_a_place_that_it_can_not_have_is_refused_at_once(
    new_host: Callable[..., Flask], place: dict[str, str], said: str
) -> None:
    """By `init_app` and by `register_blueprint`; the application is as it was before."""
    host = new_host()
    before = _state(host)
    with pytest.raises(ValueError, match=said):
        host.register_blueprint(ServEase().blueprint(), **place)
    if "subdomain" not in place:
        with pytest.raises(ValueError, match=said):
            ServEase().init_app(host, url_prefix=place["url_prefix"])
    assert _state(host) == before


def test_a_second_installation_is_refused_before_anything_is_changed(embedded: Callable[..., Flask]) -> None:
    """The first goes on with its own parts and settings."""
    host = embedded()
    before = _state(host)
    other = {"SECRET_KEY": "z" * 40, "DATABASE_URL": "postgresql://nowhere/x", "CACHE_KEY_PREFIX": "second"}

    for again in (
        lambda: install(host, "/two", settings=other),
        lambda: ServEase().init_app(host, url_prefix="/two"),
    ):
        with pytest.raises(RuntimeError, match="already"):
            again()

    assert _state(host) == before
    assert host.test_client().get(HEALTH).status_code == 200


def test_a_command_of_the_same_name_is_not_replaced(new_host: Callable[..., Flask]) -> None:
    """It is the host's."""
    host = new_host()
    host.cli.command("servease")(lambda: None)
    before = _state(host)

    with pytest.raises(RuntimeError, match="command 'servease'"):
        ServEase().init_app(host)

    assert _state(host) == before


def test_a_blueprint_of_the_same_name_is_not_replaced(new_host: Callable[..., Flask]) -> None:
    """Flask refuses it, and nothing is left behind."""
    host = new_host()
    host.register_blueprint(Blueprint("servease", __name__))
    before = _state(host)

    with pytest.raises(ValueError, match="'servease' is already registered"):
        ServEase().init_app(host)

    assert _state(host) == before


def test_too_late_changes_nothing(new_host: Callable[..., Flask]) -> None:
    """After its first request an application takes nothing in any more."""
    host = new_host()
    host.test_client().get("/")
    before = _state(host)

    with pytest.raises(AssertionError):
        ServEase().init_app(host)

    assert _state(host) == before


def test_settings_that_can_not_be_used_change_nothing(new_host: Callable[..., Flask]) -> None:
    """All of them are named, as they stand in `app.config`."""
    host = new_host(SERVEASE_CACHE_TIMEOUT="soon", SERVEASE_SECRET_KEY=None)
    before = _state(host)

    with pytest.raises(SettingsError) as caught:
        ServEase().init_app(host)

    assert [line.partition("=")[0].partition(" ")[0] for line in caught.value.problems] == [
        "SERVEASE_CACHE_TIMEOUT",
        "SERVEASE_SECRET_KEY",
    ]
    assert _state(host) == before


@pytest.mark.parametrize("name", ["SERVEASE_REDIS_URL", "SERVEASE_DATABASE_URL"])
def test_an_option_that_no_driver_knows_is_named_as_the_host_names_it(
    new_host: Callable[..., Flask], name: str
) -> None:
    """The drivers refuse it later than the other mistakes are found; the message has the same form."""
    host = new_host()
    host.config[name] += "?no_such_option=1"
    before = _state(host)

    with pytest.raises(SettingsError, match=f"^{name}="):
        ServEase().init_app(host)

    assert _state(host) == before


def test_one_object_serves_several_applications(new_host: Callable[..., Flask]) -> None:
    """Nothing of an application is kept on it: each has its own settings, prefix and parts."""
    servease = ServEase()
    kept = {name: id(value) for name, value in vars(servease).items()}
    hosts = [new_host(SERVEASE_CACHE_KEY_PREFIX=f"host_{number}") for number in range(2)]
    for number, host in enumerate(hosts):
        servease.init_app(host, url_prefix=f"/{number}")

    for number, host in enumerate(hosts):
        assert host.extensions[EXTENSION].settings.cache_key_prefix == f"host_{number}"
        assert host.test_client().get(f"/{number}/health/").status_code == 200
        assert host.test_client().get(f"/{1 - number}/health/").status_code == 404
    assert {name: id(value) for name, value in vars(servease).items()} == kept


def test_the_hosts_own_tokens_are_not_let_in(embedded: Callable[..., Flask], config: dict[str, Any]) -> None:
    """What it signs with its own key, for a new password say, is no token of ours."""
    host = embedded(SECRET_KEY="h" * 40)
    for key, status in (("h" * 40, 401), (config["SERVEASE_SECRET_KEY"], 200)):
        headers = {"Authorization": f"Bearer {token(key, user_role='admin')}"}
        assert host.test_client().get(f"{PREFIX}/appointments/", headers=headers).status_code == status


def test_any_method_is_answered_by_us(embedded: Callable[..., Flask]) -> None:
    """Also one that no standard knows."""
    answer = embedded().test_client().open(HEALTH, method="BREW")

    assert (answer.status_code, answer.mimetype) == (405, "application/json")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_the_package_offers_the_extension_and_the_functions() -> None:
    """They are imported when they are asked for."""
    for name in servease_appt.__all__:
        assert getattr(servease_appt, name) is not None
    assert set(servease_appt.__all__) <= set(dir(servease_appt))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        servease_appt.nothing  # noqa: B018
