"""The one connection of a listener: frames in order, nothing lost, nothing kept from the pool."""

import inspect
import os
import resource
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
import redis
from redis._parsers import _RESP3Parser
from redis._parsers.socket import SocketBuffer
from redis.connection import Connection

from servease_appt.cache import connect
from servease_appt.cache.callbacks import ListenerCallbacks
from servease_appt.cache.channel import Changed, Channel, Frame, Published, Reply, Subscribed
from servease_appt.cache.gathered import MAX_GATHERED, Gathered
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import Entry
from servease_appt.cache.listener import Listener
from servease_appt.cache.messages import Invalidation
from servease_appt.cache.send_queue import BEAT_S, VERIFY_EVERY_S
from servease_appt.testing.fault_proxy import LinkKind, Proxy
from tests.cache.testbed import eventually


@pytest.fixture
def wake() -> Iterator[tuple[socket.socket, socket.socket]]:
    """What a thread is woken by."""
    out, into = socket.socketpair()
    yield out, into
    out.close()
    into.close()


def frames(channel: Channel, count: int, wake: socket.socket) -> list[Frame]:
    """The next `count` frames."""
    found: list[Frame] = []

    def read() -> bool:
        channel.wait(wake, 0.1)
        there, frame = channel.receive()
        if there:
            found.append(frame)
        return len(found) == count

    eventually(read, f"the arrival of {count} frames")
    return found


def test_the_private_names_that_are_used_are_still_there() -> None:
    """What `channel.py` takes from inside redis-py; whoever updates redis-py sees here what to look at."""
    parameters = inspect.signature(Connection.read_response).parameters
    assert {"disable_decoding", "timeout", "disconnect_on_error", "push_request"} <= set(parameters)
    assert {"check_health"} <= set(inspect.signature(Connection.send_packed_command).parameters)
    for name in ("set_pubsub_push_handler", "set_invalidation_push_handler"):
        assert callable(getattr(_RESP3Parser, name))
    connection = Connection()  # type: ignore[no-untyped-call]
    assert connection._sock is None
    connection.set_parser(_RESP3Parser)  # type: ignore[no-untyped-call]
    assert isinstance(connection._parser, _RESP3Parser)
    assert "_buffer" in vars(_RESP3Parser(socket_read_size=1))  # type: ignore[no-untyped-call]
    assert callable(SocketBuffer.unread_bytes)
    pool = redis.ConnectionPool()
    assert pool.connection_class is Connection
    assert isinstance(pool.connection_kwargs, dict)


def test_answers_and_news_come_in_one_order(
    redis_url: str, client: redis.Redis, wake: tuple[socket.socket, socket.socket]
) -> None:
    """A subscription's confirmation, a message, a change and answers arrive as what they are, as they happened."""
    with connect(redis_url) as own:
        channel = Channel(own)
        channel.send("SUBSCRIBE", "news")
        channel.send("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "p:")
        assert frames(channel, 2, wake[0]) == [Subscribed(), Reply(b"OK")]
        client.publish("news", b"\xff\x00")
        client.set("p:a", "1")
        client.set("elsewhere", "1")
        channel.send("GET", "p:a")
        assert frames(channel, 3, wake[0]) == [
            Published(b"news", b"\xff\x00"),
            Changed((b"p:a",)),
            Reply(b"1"),
        ]
        client.flushdb()
        channel.send("GET", "p:a")
        # The server tells of a flush behind its answers of the same turn, or before them.
        assert sorted(map(repr, frames(channel, 2, wake[0]))) == sorted(
            map(repr, [Changed(None), Reply(None)])
        )
        channel.close()


def test_an_error_is_an_answer(redis_url: str, wake: tuple[socket.socket, socket.socket]) -> None:
    """An error reply stands in its place among the answers and ends nothing."""
    with connect(redis_url) as own:
        channel = Channel(own)
        channel.send("NO-SUCH-COMMAND")
        channel.send("PING")
        first, second = frames(channel, 2, wake[0])
        assert isinstance(first, Reply)
        assert isinstance(first.value, redis.ResponseError)
        assert second == Reply(b"PONG")
        channel.close()


def test_a_heartbeat_is_one_packet(
    redis_url: str, wake: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three packets cost the server, and each of many workers, three wakes twice a second."""
    with connect(redis_url) as own:
        channel = Channel(own)
        sent: list[bytes] = []
        send = channel._connection.send_packed_command

        def note(packets: list[bytes], **options: Any) -> None:
            sent.extend(packets)
            send(packets, **options)

        monkeypatch.setattr(channel._connection, "send_packed_command", note)
        channel.send_heartbeat(("UNLINK", "p:beat"), ("ECHO", "2"), ("GET", "p:none"))
        assert frames(channel, 3, wake[0]) == [Reply(0), Reply(b"2"), Reply(None)]
        assert len(sent) == 1
        channel.close()


def test_a_frame_in_two_pieces_is_one_frame(proxy: Proxy, wake: tuple[socket.socket, socket.socket]) -> None:
    """Half a frame is waited for and not given up: the stream stays in step."""
    with connect(proxy.url()) as own:
        channel = Channel(own)
        channel.send("SUBSCRIBE", "news")
        assert frames(channel, 1, wake[0]) == [Subscribed()]
        (link,) = proxy.links(LinkKind.PUBSUB)
        link.inject(b">3\r\n$7\r\nmessage\r\n$4\r\nne")
        eventually(lambda: channel._connection.can_read(0), "the arrival of the first piece")
        assert channel.receive() == (False, None)
        link.inject(b"ws\r\n$1\r\nx\r\n")
        assert frames(channel, 1, wake[0]) == [Published(b"news", b"x")]
        channel.close()


def test_waiting_ends_when_it_is_woken(redis_url: str, wake: tuple[socket.socket, socket.socket]) -> None:
    """A byte on the other socket ends the wait, and is taken off it."""
    with connect(redis_url) as own:
        channel = Channel(own)
        wake[1].send(b"\0\0")
        channel.wait(wake[0], 60.0)
        wake[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            wake[0].recv(1)
        channel.close()


def test_channels_use_nothing_up(redis_url: str) -> None:
    """A channel that is lost and made anew, however often, leaves the client's connections to the client.

    Seen to fail with the pool's own `make_connection`, which counts up and never down.
    """
    with connect(redis_url, max_connections=3) as own:
        for _ in range(10):
            Channel(own).close()
        assert own.ping()


def test_many_open_files_do_not_matter(redis_url: str, wake: tuple[socket.socket, socket.socket]) -> None:
    """With descriptors beyond 1023, as a busy worker has them, the channel works on. select() would not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2048)), hard))
    taken: list[int] = []
    try:
        taken.append(os.open(os.devnull, os.O_RDONLY))
        while taken[-1] < 1030:
            taken.append(os.dup(taken[0]))
        with connect(redis_url) as own:
            channel = Channel(own)
            channel.wait(wake[0], 0.01)
            channel.send("PING")
            assert frames(channel, 1, wake[0]) == [Reply(b"PONG")]
            channel.close()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Sent:
    """A connection that notes what is sent."""

    def __init__(self) -> None:
        self.commands: list[str | bytes] = []

    def send(self, *command: str | bytes) -> None:
        """Note the command's name."""
        self.commands.append(command[0])

    def send_heartbeat(self, *commands: Sequence[str | bytes]) -> None:
        """Note the commands' names."""
        self.commands += [command[0] for command in commands]


@pytest.fixture
def time_s() -> list[float]:
    """The listener's time."""
    return [1000.0]


@pytest.fixture
def idle(redis_url: str, time_s: list[float]) -> Iterator[Listener]:
    """A listener without its thread, just after a heartbeat and a comparison."""
    with connect(redis_url) as client:
        listener = Listener(client, KeySpace("x"), ("customer_",), clock=lambda: time_s[0])
        listener._callbacks = listener._heartbeat.callbacks = listener._gathered.callbacks = cast(
            "ListenerCallbacks", None
        )
        listener._queue._last_beat_s = listener._queue._verified_at_s = time_s[0]
        yield listener


def test_changes_that_follow_closely_are_compared_together(idle: Listener, time_s: list[float]) -> None:
    """The first is compared at once; those within the next milliseconds wait for each other."""
    sent: Any = Sent()
    idle._queue._to_verify["customer_1"] = Entry("old", 0.0, 0.0)
    idle._send_what_is_due(sent)
    assert sent.commands == []
    assert 0 < idle._queue.seconds_to_next_step() <= VERIFY_EVERY_S
    time_s[0] += VERIFY_EVERY_S + 0.001
    idle._queue._to_verify["customer_2"] = Entry("old", 0.0, 0.0)
    idle._send_what_is_due(sent)
    assert sent.commands == ["MGET"]
    assert idle._queue._to_verify == {}


def test_no_heartbeat_comes_before_the_comparisons(idle: Listener, time_s: list[float]) -> None:
    """Its answer renews the trust in L1, which would cover a change that was not compared."""
    sent: Any = Sent()
    time_s[0] = idle._queue._last_beat_s + BEAT_S
    idle._queue._verified_at_s = time_s[0]
    idle._queue._to_verify["customer_1"] = Entry("old", 0.0, 0.0)
    idle._send_what_is_due(sent)
    assert sent.commands[0] == "MGET"
    assert "GET" in sent.commands[1:]


def test_the_listeners_own_thread_does_not_wake_itself(
    idle: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends what was added before it waits again. A worker without a load wakes at heartbeats and answers."""
    woken: list[str] = []
    monkeypatch.setattr(idle, "_wake", lambda: woken.append("woken"))
    idle._heartbeat.confirmed = True
    idle.send_soon("PING")
    assert woken == ["woken"]
    monkeypatch.setattr(idle, "_thread", threading.current_thread())
    idle.send_soon("PING")
    assert woken == ["woken"]
    assert list(idle._queue._commands) == [("PING",)] * 2


class Received(Sent):
    """A connection that has received these frames."""

    def __init__(self, *frames: Frame) -> None:
        super().__init__()
        self._frames = list(frames)

    def has_frame(self) -> bool:
        """Return True until the last frame was received."""
        return bool(self._frames)

    def receive(self) -> tuple[bool, Frame]:
        """Return the next frame."""
        return (True, self._frames.pop(0)) if self._frames else (False, None)


class Cut(Received):
    """A connection that has received these frames, and was lost in the middle of the next one."""

    def has_frame(self) -> bool:
        """Return True: the beginning of a frame has arrived."""
        return True

    def receive(self) -> tuple[bool, Frame]:
        """Return the next frame. Raises ConnectionError after the last."""
        if not self._frames:
            raise redis.ConnectionError("lost")
        return super().receive()


def test_what_was_received_before_a_loss_is_handled(idle: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also messages that wait to be handled together: each key once, and as often as it was named."""
    handled: list[Invalidation] = []

    class Callbacks:
        on_message = staticmethod(handled.append)

    monkeypatch.setattr(idle, "_callbacks", Callbacks)
    monkeypatch.setattr(idle._gathered, "callbacks", Callbacks, raising=False)
    message = b'{"v":1,"source":"a","seq":%d,"keys":["customer_1"]}'
    received: Any = Cut(*(Published(b"x:invalidate", message % number) for number in (5, 6, 7)))
    with pytest.raises(redis.ConnectionError, match="lost"):
        idle._handle_received(received)
    assert handled == [Invalidation(("customer_1",) * 3, source="a", sequence=7)]


@pytest.mark.parametrize("keys_per_message", [1, 100, 2 * MAX_GATHERED])
def test_no_message_waits_for_many_others(keys_per_message: int) -> None:
    """A stream of messages that does not end is handled in parts of a limited size."""
    handled: list[Invalidation] = []

    class Callbacks:
        on_message = staticmethod(handled.append)

    gathered = Gathered(KeySpace("x"), lambda _: None)
    gathered.callbacks = cast("ListenerCallbacks", Callbacks)
    names = tuple(f"customer_{number}" for number in range(keys_per_message))
    for sequence in range(1, 2 * MAX_GATHERED + 1):
        gathered.add(Invalidation(names, source="a", sequence=sequence))
        waiting = sequence - (handled[-1].sequence or 0 if handled else 0)
        assert waiting * keys_per_message < MAX_GATHERED
    assert all(len(message.keys) < MAX_GATHERED + keys_per_message for message in handled)


def test_messages_are_handled_before_the_network_is_read_again(
    idle: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read gives up the interpreter, and a busy worker keeps it for milliseconds."""
    happened: list[str] = []

    class Callbacks:
        on_message = staticmethod(lambda *_: happened.append("handled"))

    class Noting(Received):
        def receive(self) -> tuple[bool, Frame]:
            if not self.has_frame():
                happened.append("read")
            return super().receive()

    monkeypatch.setattr(idle._gathered, "callbacks", Callbacks, raising=False)
    message = b'{"v":1,"source":"a","seq":5,"keys":["customer_1"]}'
    received: Any = Noting(Published(b"x:invalidate", message))
    idle._handle_received(received)
    assert happened == ["handled", "read"]


@pytest.mark.parametrize(
    "later", [Reply(b"5"), Published(b"x:__ask", b"{}"), Published(b"x:invalidate", b"k")]
)
def test_what_follows_messages_finds_them_handled(
    later: Frame, idle: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer about the sequence, a query and a request rely on what came before them."""
    happened: list[str] = []

    class Callbacks:
        on_query = staticmethod(lambda *_: happened.append("query"))

        @staticmethod
        def on_message(invalidation: Invalidation) -> None:
            happened.append("keys" if invalidation.sequence else "request")

    monkeypatch.setattr(idle, "_callbacks", Callbacks)
    monkeypatch.setattr(idle._gathered, "callbacks", Callbacks, raising=False)
    monkeypatch.setattr(idle, "_on_reply", lambda *_: happened.append("answer"))
    message = Published(b"x:invalidate", b'{"v":1,"source":"a","seq":5,"keys":["customer_1"]}')
    received: Any = Received(message, message, later, message)
    idle._handle_received(received)
    assert happened[0] == happened[2] == "keys"
    assert happened[1] in {"answer", "query", "request"}


@pytest.mark.parametrize(
    ("frames", "may_gather"),
    [
        ([], False),
        ([Changed((b"x:customer_1",))], True),
        ([Changed((b"x:customer_1",)), Published(b"x:invalidate", b"customer_1")], False),
        ([Published(b"x:invalidate", b"customer_1")], False),
        ([Reply(b"5")], False),
    ],
)
def test_only_changes_are_gathered(
    frames: list[Frame], may_gather: bool, idle: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows a message of an invalidation is never waited for, and neither is an answer."""
    handled: list[object] = []
    monkeypatch.setattr(idle, "_handle", handled.append)
    received: Any = Received(*frames)
    assert idle._handle_received(received) is may_gather
    assert handled == frames
