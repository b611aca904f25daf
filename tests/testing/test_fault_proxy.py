"""The proxy breaks links as it says: otherwise the tests behind it would prove nothing."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from servease_appt.testing.fault_proxy import LinkKind, Proxy, _Commands
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey


@pytest.fixture
def proxy(valkey: EmbeddedValkey, redis_url: str) -> Iterator[Proxy]:
    """A proxy in front of the run's Valkey."""
    with Proxy(valkey.port) as between:
        yield between


@pytest.fixture
def client(proxy: Proxy) -> Iterator[redis.Redis]:
    """A client that goes through the proxy, tries once and waits 0.2 s."""
    with redis.Redis.from_url(proxy.url(), socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as connected:
        yield connected


def test_it_forwards_and_counts_commands(proxy: Proxy, client: redis.Redis) -> None:
    """What goes through arrives, and each command's name is known."""
    client.set("a", "1")
    assert client.get("a") == b"1"
    assert [name for name in proxy.commands(LinkKind.DATA) if name in ("SET", "GET")] == ["SET", "GET"]


def test_a_black_hole_keeps_the_link_open(proxy: Proxy, client: redis.Redis) -> None:
    """A swallowed command ends in a time-out, not in a closed connection; healed, new links work."""
    client.ping()
    proxy.data.black_hole()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    proxy.data.heal()
    assert client.ping()


def test_a_stranded_link_stays_open_and_a_new_one_works(proxy: Proxy, client: redis.Redis) -> None:
    """The open link is silent from then on; the client's next connection is as good as any."""
    client.ping()
    assert proxy.strand(LinkKind.DATA) == 1
    with pytest.raises(redis.TimeoutError):
        client.ping()
    assert client.ping()


def test_one_way_loss_still_reaches_the_server(proxy: Proxy, client: redis.Redis) -> None:
    """With only the answers swallowed, the command takes effect."""
    client.ping()
    proxy.data.swallow_to_client = True
    with pytest.raises(redis.TimeoutError):
        client.set("a", "1")
    proxy.data.heal()
    assert client.get("a") == b"1"


def test_a_reset_is_seen_at_once(proxy: Proxy, client: redis.Redis) -> None:
    """A link that is reset in the middle of an answer ends in an error, not in a wait."""
    client.set("a", "x" * 1000)
    proxy.data.cut_after = 100
    with pytest.raises(redis.ConnectionError):
        client.get("a")
    proxy.data.heal()
    assert client.get("a") == b"x" * 1000


def test_kinds_of_links_are_broken_apart(proxy: Proxy, client: redis.Redis) -> None:
    """The subscribing link goes silent alone; commands still work."""
    with client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe("channel")
        assert pubsub.get_message(timeout=1) is not None
        proxy.pubsub.black_hole()
        assert client.publish("channel", "lost") == 1
        assert pubsub.get_message(timeout=0.1) is None
        assert len(proxy.links(LinkKind.PUBSUB)) == 1


def test_held_bytes_are_late_and_not_lost(proxy: Proxy, client: redis.Redis) -> None:
    """While it holds, nothing comes; afterwards everything does."""
    with client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe("channel")
        assert pubsub.get_message(timeout=1) is not None
        with proxy.holding(LinkKind.PUBSUB):
            client.publish("channel", "late")
            assert pubsub.get_message(timeout=0.1) is None
        message = pubsub.get_message(timeout=5)
        assert message is not None
        assert message["data"] == b"late"


def test_refusing_ends_new_connections(proxy: Proxy, client: redis.Redis) -> None:
    """A connection that is refused fails at once."""
    proxy.refusing = True
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.refusing = False
    assert client.ping()


def test_a_connection_that_arrives_while_the_proxy_ends_is_closed(
    valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that swallows bytes would never close by itself: its sockets would outlive the proxy."""
    proxy = Proxy(valkey.port)
    proxy.data.black_hole()
    connect = socket.create_connection
    accepted = threading.Event()

    def late(*arguments: Any, **options: Any) -> socket.socket:
        accepted.set()
        wait_until(lambda: proxy.ended.is_set() and proxy._listening.fileno() < 0, timeout_s=5)
        return connect(*arguments, **options)

    with connect(("127.0.0.1", proxy.port)):
        monkeypatch.setattr(socket, "create_connection", late)
        with proxy:
            assert accepted.wait(5)
        assert proxy.links() == []


def test_a_command_counts_once_it_was_forwarded(
    proxy: Proxy, valkey: EmbeddedValkey, client: redis.Redis
) -> None:
    """A test that waits for a command may then change what the command reads."""
    client.ping()
    proxy.data.delay_s = 1.0
    with pytest.raises(redis.TimeoutError):  # after 0.2 s
        client.set("a", "1")
    proxy.wait_for_command("SET", LinkKind.DATA)
    with redis.Redis.from_url(valkey.url(1)) as direct:
        assert wait_until(lambda: direct.get("a") == b"1", timeout_s=0.5)


def test_a_command_is_known_when_its_answer_is_there(
    proxy: Proxy, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the thread that reads its name is held up. Seen to fail: the last command was missing."""
    client.ping()
    feed, answered = _Commands.feed, threading.Event()

    def late(commands: _Commands, chunk: bytes) -> None:
        answered.wait(0.1)
        feed(commands, chunk)

    monkeypatch.setattr(_Commands, "feed", late)
    client.set("a", "1")
    assert proxy.commands(LinkKind.DATA)[-1] == "SET"
    answered.set()
