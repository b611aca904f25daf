"""The Redis users of deploy/users.acl, on a real server: enough for all that the service does, and no more."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_caching import Cache as FlaskCache
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from servease_appt.cache import Mode, TwoTierCache, connect, json_codec
from servease_appt.cache.refusals import cause_of
from servease_appt.container import EXTENSION
from servease_appt.inspection.key_pages import read_page
from servease_appt.rate_limits import _TAKE_ONE, Cost, RateLimits
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import free_port
from tests.deploy.conftest import USERS, GuardedValkey
from tests.support.cli import Cli
from tests.support.dataset import Asker, Dataset, new_id, token
from tests.support.served import settings

SCRIPTS = Path(__file__).parents[2] / "servease_appt" / "cache" / "l2" / "scripts"
PREFIX = "appointment_service"
USER = "appointment_service"
KEY = "customer_1"

Cache = TwoTierCache[Mapping[str, Any]]


@pytest.fixture
def url(guarded_valkey: GuardedValkey) -> Iterator[str]:
    """The URL of the service's user, who has to be refused nothing by the end of the test."""
    yield guarded_valkey.url_of(USER)
    with guarded_valkey.admin() as admin:
        refused = [
            (entry["reason"], entry["object"]) for entry in admin.acl_log() if entry["username"] == USER
        ]
    assert refused == []


@pytest.fixture
def workers(url: str) -> Iterator[list[Cache]]:
    """Two caches that listen to each other."""
    caches = [
        TwoTierCache(connect(url), (json_codec("customer"),), prefix=PREFIX, owns_client=True) for _ in "ab"
    ]
    for cache in caches:
        cache.start()
    yield caches
    for cache in caches:
        cache.close()


def test_the_cache_works_with_these_rights(workers: list[Cache], url: str) -> None:
    """Both tiers serve, invalidations reach the other worker, queries are answered, and requests are counted."""
    one, other = workers
    assert wait_until(lambda: {cache.mode for cache in workers} == {Mode.BOTH}, timeout_s=20)

    assert other.get(KEY, lambda _key, _timeout_s: {"n": 1}) == {"n": 1}
    assert one.get(KEY, lambda _key, _timeout_s: {"n": 2}) == {"n": 1}
    one.invalidate([KEY])
    assert wait_until(lambda: other.get(KEY, lambda _key, _timeout_s: {"n": 3}) == {"n": 3}, timeout_s=20)
    one.invalidate_matching("customer_*")
    assert wait_until(lambda: other.get(KEY, lambda _key, _timeout_s: {"n": 4}) == {"n": 4}, timeout_s=20)
    assert len(list(one.worker_queries.answers("heard", timeout_s=20, expected=len(workers)))) == len(workers)
    assert one.l2.refusals.current is None
    with connect(url) as client:
        limits = RateLimits(client, PREFIX, {Cost.NORMAL: 10, Cost.COSTLY: 0})
        assert any(limits.wait_s("somebody", Cost.NORMAL) for _ in range(20))


def test_the_cache_works_in_a_cluster_with_these_rights(tmp_path: Path) -> None:
    """Also what its client asks about the topology. One node has all slots here."""
    options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    with GuardedValkey(tmp_path, options) as node, node.admin_of(0) as admin:
        untyped: Any = admin
        untyped.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        assert wait_until(
            lambda: b"cluster_state:ok" in untyped.execute_command("CLUSTER", "INFO"), timeout_s=20
        )
        url = node.url_of(USER, 0).replace("redis://", "redis+cluster://").removesuffix("/0")
        cache = Cache(connect(url), (json_codec("customer"),), prefix=PREFIX, owns_client=True)
        try:
            cache.start()
            assert wait_until(lambda: cache.mode == Mode.BOTH, timeout_s=20)
            assert cache.get(KEY, lambda _key, _timeout_s: {"n": 1}) == {"n": 1}
            cache.invalidate([KEY])
            assert cache.get(KEY, lambda _key, _timeout_s: {"n": 2}) == {"n": 2}
            page = read_page(cache.l2.client, cache.keys, "customer_*")
            assert ([row.key for row in page.rows], page.cursor) == ([KEY], None)
            cache.invalidate_matching("customer_*")
            assert len(list(cache.worker_queries.answers("heard", timeout_s=20, expected=1))) == 1
        finally:
            cache.close()
        assert [(entry["reason"], entry["object"]) for entry in admin.acl_log()] == []


def test_the_service_and_its_commands_work_with_these_rights(
    url: str, guarded_valkey: GuardedValkey, migrated_postgres_url: str, fake_services: FakeServices
) -> None:
    """The stream of booking events, a page, counters, readiness, the dashboard, and every command that ends."""
    with Cli(settings(migrated_postgres_url, url, fake_services, EVENT_STREAM_MAXLEN="100")) as cli:
        cache = cli.app.extensions[EXTENSION].lookups.cache
        cache.start()
        assert wait_until(lambda: cache.mode == Mode.BOTH, timeout_s=20)
        dataset = Dataset(cli.app, fake_services)
        path = f"/appointments/{dataset.appointment()}/"
        assert dataset.alice.get(path).get_json()["customer_name"] == "Alice Ant"
        _read_an_event(guarded_valkey)
        admin = Asker(cli.app, token(user_role="admin"))
        body = {"entity": "customer", "ids": [dataset.alice_id]}
        assert admin.post("/cache/invalidate/", body).status_code == 200
        assert dataset.alice.get(path).get_json()["customer_name"] == "Alice Ant"
        assert Asker(cli.app, None).get("/health/ready/").get_json()["status"] == "ready"
        name = f"customer_{dataset.alice_id}"
        for command in ("keys", "stats", f"get {name}", f"ttl {name}", f"exists {name}", f"explain {name}"):
            cli.run(*command.split())
        cli.run("warm")
        cli.run("invalidate", "vehicle", new_id())
        findings = json.loads(cli.app.test_cli_runner().invoke(args=["cache", "doctor", "--json"]).stdout)
        assert [f for f in findings["findings"] if f["area"] == "redis" and f["level"] == "problem"] == []
        _open_dashboard(cli)
        cli.run("clear", "--yes")
        with cli.process("monitor", "--json") as monitor:
            monitor.wait_for("Watching 1 worker")
            cli.run("invalidate", name)
            monitor.wait_for(name)


def _read_an_event(server: GuardedValkey) -> None:
    """As the user for that, who can read nothing else and write nothing."""
    key = f"{PREFIX}:__events"
    with Redis.from_url(server.url_of("event_reader")) as client:
        assert wait_until(lambda: client.xlen(key) > 0, timeout_s=20)
        client.xgroup_create(key, "billing", "0")
        untyped: Any = client
        ((_, entries),) = untyped.xreadgroup("billing", "one", {key: ">"})
        assert client.xack(key, "billing", entries[0][0]) == 1
        for command in (
            ("XADD", key, "*", "a", "b"),
            ("XTRIM", key, "MAXLEN", "0"),
            ("GET", f"{PREFIX}:{KEY}"),
        ):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


def _open_dashboard(cli: Cli) -> None:
    (code,) = re.findall(r"#code=(\S+)", cli.run("dashboard").stdout)
    client = cli.app.test_client()
    session = client.post("/ops/cache/session", json={"code": code})
    bearer = {"Authorization": f"Bearer {session.get_json()['token']}"}
    assert client.get("/ops/cache/data", headers=bearer).status_code == 200
    named = {"entity": "customer", "id": new_id()}
    for action in ("explain", "invalidate"):
        assert client.post(f"/ops/cache/{action}", json=named, headers=bearer).status_code == 200
    keys = client.get("/ops/cache/keys", headers=bearer).get_json()["rows"]
    assert all(row["left_s"] > 0 for row in keys)
    assert {row["key"].partition("_")[0] for row in keys} >= {"vehicle", "customer"}
    assert client.get("/ops/cache/events", headers=bearer).get_json()["events"]
    findings = client.post("/ops/cache/doctor", json={}, headers=bearer).get_json()["findings"]
    assert [f for f in findings if f["area"] == "redis" and f["level"] == "problem"] == []


def test_the_flask_caching_backend_works_with_these_rights(url: str) -> None:
    """Under the prefix of the file: values, dictionaries, counters, views, deletions and a clear."""
    app = Flask("host")
    app.config |= {
        "CACHE_TYPE": "servease_appt.cache.flask_caching.TwoTierBackend",
        "CACHE_REDIS_URL": url,
        "CACHE_KEY_PREFIX": PREFIX,
    }
    cache = FlaskCache(app)
    ran: list[int] = []

    @cache.memoize(60)
    def doubled(number: int) -> int:
        ran.append(number)
        return 2 * number

    with app.app_context():
        try:
            cache.set("a", 1)
            cache.set_many({"b": 2, "c": 3})
            assert cache.add("a", 5) is False
            assert cache.get_many("a", "b", "c") == [1, 2, 3]
            assert cache.get_dict("a") == {"a": 1}
            assert cache.has("a")
            assert doubled(4) == doubled(4) == 8
            cache.delete_memoized(doubled)
            assert doubled(4) == 8
            assert ran == [4, 4]
            backend: Any = cache.cache
            assert backend.inc("n", 2) == 2
            assert backend.dec("n") == 1
            assert cache.delete("a")
            assert cache.delete_many("b", "c")
            assert cache.clear()
            assert cache.get("n") is None
        finally:
            app.extensions["cache"][cache].close()


def test_every_command_of_the_scripts_is_allowed() -> None:
    """Also where a script calls it in a rare case only."""
    texts = [_TAKE_ONE, *(path.read_text() for path in SCRIPTS.glob("*.lua"))]
    called = {name.lower() for text in texts for name in re.findall(r"redis\.p?call\('(\w+)'", text)}
    (line,) = re.findall(rf"^user {USER} .*$", USERS.read_text(), re.MULTILINE)
    assert called - {word[1:] for word in line.split() if word[0] == "+"} == set()
    assert len(called) > 10


FORBIDDEN = (
    ("GET", "another:key"),
    ("SET", "another:key", "1"),
    ("PUBLISH", "another", "1"),
    ("SUBSCRIBE", "another"),
    ("KEYS", "*"),
    ("FLUSHDB",),
    ("FLUSHALL",),
    ("CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("MONITOR",),
    ("REPLICAOF", "NO", "ONE"),
    ("SCRIPT", "FLUSH"),
    ("EVAL", "return redis.call('KEYS', '*')", "0"),
    ("EVAL", "return redis.call('GET', KEYS[1])", "1", "another:key"),
    ("SHUTDOWN",),
)


def test_an_invalidation_may_wait_for_replicas(url: str) -> None:
    """As it does under sentinels; else they would be asked at each invalidation."""
    with connect(url) as client:
        assert client.wait(0, 1) == 0


def test_it_has_no_rights_beyond(guarded_valkey: GuardedValkey) -> None:
    """Other keys and channels, and commands for administrators, are refused, in a script as well."""
    with Redis.from_url(guarded_valkey.url_of(USER)) as client:
        for command in FORBIDDEN:
            with pytest.raises(ResponseError) as refused:
                client.execute_command(*command)
            assert cause_of(refused.value) == "NOPERM", command


def test_a_neighbour_may_publish_invalidations_only(guarded_valkey: GuardedValkey) -> None:
    """It can neither read a name nor publish elsewhere."""
    with Redis.from_url(guarded_valkey.url_of("neighbour")) as client:
        assert client.publish(f"{PREFIX}:invalidate", KEY) == 0
        for command in (("GET", f"{PREFIX}:{KEY}"), ("PUBLISH", f"{PREFIX}:__ask", "1")):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


def test_nobody_gets_in_without_a_password(guarded_valkey: GuardedValkey) -> None:
    """Not as the default user either."""
    with Redis.from_url(guarded_valkey.url(1)) as client, pytest.raises(AuthenticationError):
        client.ping()
