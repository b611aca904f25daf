"""Flask-Caching's settings mean to TwoTierBackend what they mean to RedisCache, or stop the start."""

import contextlib
import warnings
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import redis
from cachelib.serializers import JSONSerializer, RedisSerializer
from flask import Flask
from flask_caching import Cache

from servease_appt.cache.flask_caching import TwoTierBackend
from servease_appt.testing.servers import EmbeddedValkey, free_port
from tests.cache.test_redis_client import sentinel  # noqa: F401 - a fixture
from tests.cache.testbed import eventually

TWO_TIERS = "servease_appt.cache.flask_caching.TwoTierBackend"
HOST = "127.0.0.1"
PASSWORD = "s3cret"
DATABASES = (0, 1, 2, 5)


class Servers:
    """An open server, and one that asks for a password and listens on a Unix socket, too."""

    def __init__(self, open_: EmbeddedValkey, closed: EmbeddedValkey, stack: contextlib.ExitStack) -> None:
        self.open = open_
        self.closed = closed
        self._stack = stack
        both = (("open", open_, None), ("closed", closed, PASSWORD))
        self.clients: dict[tuple[str, int], redis.Redis] = {
            (name, database): self.client(port=server.port, password=password, db=database)
            for name, server, password in both
            for database in DATABASES
        }

    def client(self, **options: Any) -> redis.Redis:
        """A client that is closed at the end."""
        client: redis.Redis = self._stack.enter_context(redis.Redis(**options))
        return client


@pytest.fixture(scope="module")
def servers(valkey: EmbeddedValkey) -> Iterator[Servers]:
    """Both servers."""
    options = ["--requirepass", PASSWORD, "--unixsocket", "valkey.sock"]
    with EmbeddedValkey(options=options) as closed, contextlib.ExitStack() as stack:
        yield Servers(valkey, closed, stack)


def made(servers: Servers, **config: Any) -> dict[str, Any]:
    """The settings, with what depends on the servers filled in."""
    known = {
        "OPEN": servers.open.port,
        "CLOSED": servers.closed.port,
        "SOCKET": str(servers.closed.directory / "valkey.sock"),
        "CLIENT": lambda: servers.client(port=servers.open.port, db=2),
    }

    def fill(value: Any) -> Any:
        if isinstance(value, str) and value in known:
            found = known[value]
            return found() if callable(found) else found
        if isinstance(value, dict):
            return {name: fill(inner) for name, inner in value.items()}
        if isinstance(value, str):
            return value.replace("{OPEN}", str(servers.open.port)).replace(
                "{CLOSED}", str(servers.closed.port)
            )
        return value

    return {f"CACHE_{name}": fill(value) for name, value in config.items()}


def outcome(servers: Servers, cache_type: str, config: dict[str, Any]) -> tuple[Any, ...]:
    """What becomes of a value: on which server, in which database, for how long. Or that it was refused."""
    for client in servers.clients.values():
        client.flushdb()
    app, backend = Flask("host"), None
    app.config.update(config, CACHE_TYPE=cache_type)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cache = Cache(app)
        backend = cache.cache
        if not cache.set("migrated", [1]) or cache.get("migrated") != [1]:
            return ("not stored",)
    except Exception as error:  # noqa: BLE001 - RedisCache raises whatever redis-py does
        return ("refused", type(error) if cache_type == TWO_TIERS else None)
    finally:
        if isinstance(backend, TwoTierBackend):
            backend.close()
        elif backend is not None:
            vars(backend)["_write_client"].close()
    (found,) = [
        (server, database, round(client.pttl(key) / 1000))
        for (server, database), client in servers.clients.items()
        for key in client.keys("*migrated")
        if b"__" not in key
    ]
    return found


AT = {"REDIS_HOST": HOST, "REDIS_PORT": "OPEN"}
CLOSED_AT = {"REDIS_HOST": HOST, "REDIS_PORT": "CLOSED"}
SAME: list[dict[str, Any]] = [
    AT,
    AT | {"REDIS_DB": 0},
    AT | {"REDIS_DB": 2},
    AT | {"REDIS_DB": "5"},
    AT | {"REDIS_PASSWORD": ""},
    CLOSED_AT | {"REDIS_PASSWORD": PASSWORD},
    CLOSED_AT | {"OPTIONS": {"password": PASSWORD}},
    CLOSED_AT | {"OPTIONS": {"password": "another"}, "REDIS_PASSWORD": PASSWORD},
    {"REDIS_HOST": "CLIENT"},
    {"REDIS_HOST": "CLIENT", "REDIS_PORT": 1, "REDIS_DB": 5},
    {"REDIS_URL": "redis://127.0.0.1:{OPEN}"},
    {"REDIS_URL": "redis://127.0.0.1:{OPEN}/0"},
    {"REDIS_URL": "redis://127.0.0.1:{OPEN}/2"},
    {"REDIS_URL": "redis://127.0.0.1:{OPEN}", "REDIS_DB": 5},
    {"REDIS_URL": "redis://127.0.0.1:{OPEN}/2", "REDIS_DB": 5},
    {"REDIS_URL": "redis://127.0.0.1:{OPEN}", "REDIS_PASSWORD": PASSWORD},
    {"REDIS_URL": "redis://127.0.0.1:{OPEN}/2", "REDIS_HOST": "nowhere.invalid"},
    {"REDIS_URL": "redis://:s3cret@127.0.0.1:{CLOSED}/2"},
    {"REDIS_URL": "redis://127.0.0.1:{OPEN}/2?socket_timeout=1.5&health_check_interval=30"},
    {"REDIS_URL": "redis://127.0.0.1:{CLOSED}/2", "OPTIONS": {"password": PASSWORD}},
    AT | {"OPTIONS": {"default_timeout": 77}},
    AT | {"OPTIONS": {"socket_timeout": 1}},
    AT | {"OPTIONS": {"key_prefix": "mine"}, "KEY_PREFIX": ""},
    AT | {"OPTIONS": {"check_connection": True}},
    {"OPTIONS": {"unix_socket_path": "SOCKET", "password": PASSWORD}},
    AT | {"KEY_PREFIX": "my_app_"},
    AT | {"KEY_PREFIX": ""},
    AT | {"KEY_PREFIX": None},
    AT | {"KEY_PREFIX": lambda: "tenant1:"},
    AT | {"KEY_PREFIX": "my app {x}*:"},
    AT | {"DEFAULT_TIMEOUT": 0},
    AT | {"DEFAULT_TIMEOUT": 5},
    AT | {"DEFAULT_TIMEOUT": timedelta(minutes=2)},
    AT | {"DEFAULT_TIMEOUT": -1},
    AT | {"IGNORE_ERRORS": True},
    AT | {"SERIALIZER": RedisSerializer},
    AT | {"SERIALIZER": JSONSerializer()},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"ARGS": [HOST, 6379]}, "CACHE_ARGS"),
    ({"REDIS_HOST": None}, "CACHE_REDIS_HOST"),
    (AT | {"OPTIONS": {"no_such_option": 1}}, "CACHE_OPTIONS"),
    ({"REDIS_URL": "redis://127.0.0.1:{OPEN}", "OPTIONS": {"no_such_option": 1}}, "CACHE_OPTIONS"),
    (AT | {"OPTIONS": {"decode_responses": True}}, "decode_responses"),
    ({"REDIS_URL": "http://x"}, "CACHE_REDIS_URL"),
    ({"REDIS_URL": "valkey://127.0.0.1:{OPEN}/2"}, "CACHE_REDIS_URL"),
    (AT | {"DEFAULT_TIMEOUT": -5}, "CACHE_DEFAULT_TIMEOUT"),
    (AT | {"DEFAULT_TIMEOUT": None}, "CACHE_DEFAULT_TIMEOUT"),
    ({"REDIS_HOST": HOST, "REDIS_PORT": "x"}, "CACHE_REDIS_PORT"),
    (AT | {"REDIS_DB": "x"}, "CACHE_REDIS_DB"),
]
OURS_ALONE: list[tuple[dict[str, Any], str]] = [
    (AT | {"L1_TIMEOUT": "x"}, "CACHE_L1_TIMEOUT"),
    (AT | {"L1_TIMEOUT": -1}, "CACHE_L1_TIMEOUT"),
    (AT | {"L1_MAXSIZE": 0}, "CACHE_L1_MAXSIZE"),
    (AT | {"MAX_VALUE_BYTES": "1 MB"}, "CACHE_MAX_VALUE_BYTES"),
    (AT | {"OPTIONS": {"protocol": 2}}, "protocol=2"),
    ({"REDIS_CLUSTER": "a"}, "CACHE_REDIS_CLUSTER"),
    ({"REDIS_CLUSTER": "a:1", "REDIS_DB": 1}, "CACHE_REDIS_DB"),
    ({"REDIS_CLUSTER": "a:1", "REDIS_SENTINELS": [("a", 1)]}, "CACHE_REDIS_CLUSTER"),
    ({"REDIS_SENTINELS": ["a"]}, "CACHE_REDIS_SENTINELS"),
]


def label(config: object) -> str:
    """A readable name of a row."""
    return str(config)[:70] if isinstance(config, (dict, str)) else ""


@pytest.mark.parametrize("config", SAME, ids=label)
def test_a_setting_means_what_it_means_to_rediscache(servers: Servers, config: dict[str, Any]) -> None:
    """The value is on the same server, in the same database, for the same time."""
    expected = outcome(servers, "RedisCache", made(servers, **config))

    assert len(expected) == 3, "RedisCache stores it"
    assert outcome(servers, TWO_TIERS, made(servers, **config)) == expected


@pytest.mark.parametrize(("config", "name"), REFUSED + OURS_ALONE, ids=label)
def test_what_can_not_be_honoured_stops_the_start(
    servers: Servers, config: dict[str, Any], name: str
) -> None:
    """With one line that names the setting and what is allowed."""
    app = Flask("host")
    app.config.update(made(servers, **config), CACHE_TYPE=TWO_TIERS)

    with pytest.raises(ValueError, match="allowed: ") as refusal:
        Cache(app)

    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("config", "_name"), REFUSED, ids=label)
def test_rediscache_can_not_honour_it_either(servers: Servers, config: dict[str, Any], _name: str) -> None:
    """It raises at its start, or when it is first used."""
    assert outcome(servers, "RedisCache", made(servers, **config)) == ("refused", None)


def test_an_unusable_client_of_the_host_is_refused(servers: Servers) -> None:
    """Rather than a cache that is silently without its first or second tier."""
    cluster = redis.RedisCluster.__new__(redis.RedisCluster)
    for client in (servers.client(decode_responses=True), servers.client(protocol=2), object(), cluster):
        app = Flask("host")
        app.config.update(CACHE_TYPE=TWO_TIERS, CACHE_REDIS_HOST=client)
        with pytest.raises(ValueError, match="CACHE_REDIS_"):
            Cache(app)


def test_closing_leaves_the_hosts_connections_open(servers: Servers) -> None:
    """A client of the host's is used through its pool, which stays the host's."""
    client = servers.client(port=servers.open.port, db=2)
    app = Flask("host")
    app.config.update(CACHE_TYPE=TWO_TIERS, CACHE_REDIS_HOST=client)
    backend: Any = Cache(app).cache
    client.ping()
    (before,) = [each["id"] for each in client.client_list() if each["cmd"] == "client|list"]

    backend.set("key", 1)
    backend.close()

    assert [each["id"] for each in client.client_list() if each["cmd"] == "client|list"] == [before]


def test_check_connection_looks_at_the_start() -> None:
    """As cachelib's RedisCache does."""
    app = Flask("host")
    app.config.update(
        CACHE_TYPE=TWO_TIERS, CACHE_REDIS_PORT=free_port(), CACHE_OPTIONS={"check_connection": True}
    )
    with pytest.raises(RuntimeError, match="could not connect"):
        Cache(app)


def test_a_function_as_prefix_keeps_tenants_apart(servers: Servers) -> None:
    """Each sees, and clears, its own alone, even where one name begins with the other."""
    tenant = "a"
    app = Flask("host")
    app.config.update(made(servers, **AT), CACHE_TYPE=TWO_TIERS, CACHE_KEY_PREFIX=lambda: f"{tenant}:")
    cache = Cache(app)
    backend: Any = cache.cache
    cache.set("key", 1)
    tenant = "a*"
    cache.set("key", 2)
    assert cache.get("key") == 2

    cache.clear()

    assert cache.get("key") is None
    tenant = "a"
    assert cache.get("key") == 1
    backend.close()


def test_settings_of_a_sentinel_lead_to_its_primary(
    sentinel: int,  # noqa: F811 - the fixture
    own_valkey: EmbeddedValkey,
) -> None:
    """As RedisSentinelCache: the sentinels' addresses, the service's name, the database."""
    app = Flask("host")
    app.config.update(
        CACHE_TYPE=TWO_TIERS,
        CACHE_REDIS_SENTINELS=[(HOST, free_port()), (HOST, sentinel)],
        CACHE_REDIS_SENTINEL_MASTER="main",
        CACHE_REDIS_DB=3,
    )
    cache = Cache(app)
    backend: Any = cache.cache

    assert cache.set("key", [1])
    assert cache.get("key") == [1]
    with redis.Redis(port=own_valkey.port, db=3) as client:
        assert client.keys("*key")
    backend.close()


@pytest.fixture
def cluster() -> Iterator[EmbeddedValkey]:
    """A cluster of one node."""
    options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--requirepass", PASSWORD]
    with EmbeddedValkey(options=options) as node:
        with redis.Redis(port=node.port, password=PASSWORD) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(partial(_is_whole, client), "the cluster", timeout_s=20)
        yield node


def _is_whole(client: redis.Redis) -> bool:
    untyped: Any = client
    return b"cluster_state:ok" in untyped.execute_command("CLUSTER", "INFO")


@pytest.mark.parametrize("by_url", [False, True])
def test_settings_of_a_cluster_reach_it(cluster: EmbeddedValkey, by_url: bool) -> None:
    """As RedisClusterCache: nodes and password, or a URL; all operations work there."""
    app = Flask("host")
    app.config.update(CACHE_TYPE=TWO_TIERS, CACHE_REDIS_CLUSTER=f"{HOST}:{cluster.port}")
    app.config.update(CACHE_KEY_PREFIX="{app}:", CACHE_REDIS_PASSWORD=PASSWORD)
    if by_url:
        url = f"redis://:{PASSWORD}@{HOST}:{cluster.port}"
        app.config.update(CACHE_REDIS_CLUSTER=f"{HOST}:1", CACHE_REDIS_URL=url, CACHE_REDIS_PASSWORD=None)
    cache = Cache(app)
    backend: Any = cache.cache
    with contextlib.closing(backend):
        assert backend.set_many({"a": [1], "b": {2}}) == ["a", "b"]
        assert backend.get_many("a", "b", "c") == [[1], {2}, None]
        assert [backend.add("a", 3), backend.add("c", 3)] == [False, True]
        assert [backend.inc("n", 2), backend.dec("n"), backend.get("n")] == [2, 1, 1]
        with app.test_request_context():
            assert backend.get("d") is None
            assert backend.set("d", 4)
        assert backend.delete_many("a", "d") == ["a", "d"]
        assert backend.get_many("a", "b", "d") == [None, {2}, None]
        assert backend.clear()
        assert backend.get("b") is None
