"""How long a link to the dashboard can be opened, and that it opens once however long that is."""

import redis

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.dashboard.links import LINK_LIFETIME_S, PATH, dashboard_link, read_code
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from tests.support.dataset import SECRET
from tests.support.served import settings

DAY_S = 24 * 60 * 60


def _code(lifetime_s: int) -> str:
    return dashboard_link("http://x", SECRET, lifetime_s).partition("#code=")[2]


def test_a_code_says_how_long_it_can_be_used() -> None:
    """Whole seconds, never fewer than are left."""
    for lifetime_s in (LINK_LIFETIME_S, DAY_S):
        read = read_code(_code(lifetime_s), SECRET)
        assert read is not None
        assert lifetime_s - 10 < read.left_s <= lifetime_s + 1


def test_its_use_is_remembered_for_as_long(redis_url: str, fake_services: FakeServices) -> None:
    """A long-lived code that was used may be in a browser's history for all of its life."""
    given = settings("postgresql+psycopg2://127.0.0.1:1/none", redis_url, fake_services)
    app = create_app(Settings.from_mapping(given))
    client, code = app.test_client(), _code(DAY_S)
    try:
        answers = [client.post(f"{PATH}session", json={"code": code}).status_code for _ in range(2)]
    finally:
        app.extensions[EXTENSION].close()

    assert answers == [200, 401]
    with redis.Redis.from_url(redis_url) as operator:
        (name,) = operator.scan_iter("*:__link:*")
        assert operator.ttl(name) > DAY_S - 10
