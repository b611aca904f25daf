"""Each form of URL, and a client that gives up early."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.connection import SSLConnection

from servease_appt.cache import connect
from servease_appt.cache.sentinel import sentinels_of
from servease_appt.testing.fault_proxy import LinkKind, Proxy
from servease_appt.testing.servers import EmbeddedValkey, free_port
from tests.cache.sentinel_setup import sentinel_of
from tests.cache.testbed import eventually


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", {"host": "host", "port": 6379, "db": 1}),
        ("redis://host/", {"db": 1}),
        ("redis://host:7000/0", {"host": "host", "port": 7000, "db": 0}),
        ("redis://host?db=4", {"db": 4}),
        ("redis://user:pass%40word@host/2", {"username": "user", "password": "pass@word", "db": 2}),
        ("rediss://host:6390/3", {"host": "host", "port": 6390, "db": 3}),
        ("unix:///run/valkey.sock", {"path": "/run/valkey.sock", "db": 1}),
        ("unix:///run/valkey.sock?db=2", {"path": "/run/valkey.sock", "db": 2}),
    ],
)
def test_where_a_url_leads(url: str, expected: dict[str, object]) -> None:
    """Host, port, credentials and database, which is 1 where the URL names none; nothing is sent yet."""
    with connect(url) as client:
        kwargs = client.connection_pool.connection_kwargs
        assert {name: kwargs.get(name, 6379 if name == "port" else None) for name in expected} == expected
        tls = "SSL" in client.connection_pool.connection_class.__name__
        assert tls == url.startswith("rediss")


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "redis",
        "",
        "redis+sentinel://host:26379",
        "redis+sentinel://host:x/service/1",
        "redis+cluster://host:x",
        "redis+cluster://::1:6379",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """At once, and not at the first command."""
    with pytest.raises(ValueError):  # noqa: PT011 - what it says differs
        connect(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://host?ssl=true", "ssl"),
        ("redis://host?pasword=x", "pasword"),
        ("redis://host?ssl_ca_certs=x", "ssl_ca_certs"),
        ("redis+sentinel://host/main/1?ssl=true", "ssl"),
        ("redis+sentinel://host/main/1?password=x", "password"),
        ("redis+cluster://host?ssl=true", "ssl"),
        ("rediss+cluster://host?sentinel_password=x", "sentinel_password"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused_by_name(url: str, name: str) -> None:
    """Seen to fail: `?ssl=true` gave a connection without TLS."""
    with pytest.raises(ValueError, match=rf"unknown option in the URL: {name}\b"):
        connect(url)


def test_tls_is_for_sentinels_and_for_their_servers() -> None:
    """The options for TLS are for both, the user and password before the hosts for the servers alone."""
    url = (
        "rediss+sentinel://app:secret@[::1]:26380,host/main/2"
        "?ssl_ca_certs=/ca.pem&ssl_check_hostname=false&sentinel_username=watcher&sentinel_password=hush"
    )
    client = connect(url)
    pool = client.connection_pool
    sentinels = sentinels_of(client)
    assert sentinels is not None
    assert issubclass(pool.connection_class, SSLConnection)
    made_with = pool.connection_kwargs
    assert (made_with["username"], made_with["password"], made_with["db"]) == ("app", "secret", 2)
    assert (made_with["ssl_ca_certs"], made_with["ssl_check_hostname"]) == ("/ca.pem", False)
    asked_with = [sentinel.connection_pool.connection_kwargs for sentinel in sentinels.sentinels]
    assert [(asked["host"], asked["port"]) for asked in asked_with] == [("::1", 26380), ("host", 26379)]
    for sentinel, asked in zip(sentinels.sentinels, asked_with, strict=True):
        assert issubclass(sentinel.connection_pool.connection_class, SSLConnection)
        assert (asked["username"], asked["password"]) == ("watcher", "hush")
        assert asked["ssl_ca_certs"] == "/ca.pem"


def test_a_url_through_a_socket_file(tmp_path: Path) -> None:
    """unix:// works against a server that listens there."""
    path = tmp_path / "valkey.sock"
    with EmbeddedValkey(options=["--unixsocket", str(path)]), connect(f"unix://{path}") as client:
        client.set("a", "1")
        assert client.get("a") == b"1"
        with connect(f"unix://{path}?db=0") as other:
            assert other.get("a") is None


@pytest.fixture
def sentinel(own_valkey: EmbeddedValkey, tmp_path: Path) -> Iterator[int]:
    """The port of a sentinel that watches over `own_valkey` as `main`."""
    with sentinel_of("127.0.0.1", own_valkey.port, tmp_path) as port:
        yield port


def test_a_sentinel_leads_to_the_primary(sentinel: int, own_valkey: EmbeddedValkey) -> None:
    """The client asks a sentinel, over one that is away, and talks to the database named."""
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel}/main/1"
    with connect(url) as client, redis.Redis.from_url(own_valkey.url(1)) as direct:
        client.set("a", "1")
        assert direct.get("a") == b"1"


def test_a_listener_hears_through_a_sentinel(sentinel: int) -> None:
    """The invalidation channel finds its server the same way."""
    from servease_appt.cache.channel import Channel, Subscribed

    with connect(f"redis+sentinel://127.0.0.1:{sentinel}/main/1") as client:
        channel = Channel(client)
        channel.send("SUBSCRIBE", "news")
        eventually(lambda: channel.receive() == (True, Subscribed()), "the confirmation")
        channel.close()


def test_nothing_is_tried_twice(proxy: Proxy) -> None:
    """A black hole costs one time-out and no more; redis-py's own defaults try for minutes."""
    with connect(proxy.url(), timeout_s=0.2) as client:
        client.ping()
        proxy.data.black_hole()
        began_s = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            client.get("a")
        assert time.monotonic() - began_s < 1.0
        assert proxy.commands(LinkKind.DATA).count("GET") == 1


def test_a_new_connection_sends_little(proxy: Proxy) -> None:
    """HELLO and SELECT, and nothing that only tells of the library."""
    with connect(proxy.url()) as client:
        client.ping()
    assert proxy.commands(LinkKind.DATA) == ["HELLO", "SELECT", "PING"]
