"""A fake listener: one socket that sends to Redis what a worker's listener sends, without a worker behind it.

It connects with RESP3, subscribes, turns tracking on, sends a heartbeat twice a second, registers and reads the
switch of L1 every 5 s, as `servease_appt.cache.listener` does; a test compares the commands. What follows
a message is optional:

* `verify`: read a key with MGET after a tracking message about it, as a worker does that holds the key in L1.
* `elect`: carry out a plain PUBLISH after a random delay, unless a numbered message covers it before.
"""

import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from servease_appt.cache.election import draw_delay_s
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.messages import Invalidation, own_message_parts
from servease_appt.cache.plain_requests import MAX_REFUSALS
from servease_appt.cache.refusals import SCRIPT_TEST
from servease_appt.testing.servers import HOST

BEAT_S = 0.5
REGISTER_S = 5.0
ENTITIES = ("customer", "vehicle", "employee")
_PUSH = re.compile(
    rb">3\r\n\$7\r\nmessage\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\n(?P<message>[^\r]*)\r\n"
    rb"|>2\r\n\$10\r\ninvalidate\r\n\*(?P<count>\d+)\r\n(?P<keys>(?:\$\d+\r\n[^\r]*\r\n)+)"
)
_KEY = re.compile(rb"\$\d+\r\n([^\r]*)\r\n")
_SOURCE = re.compile(rb'"source":"(\d+)"')
_SEQUENCE = re.compile(rb'"seq":(\d+)')
_NUMBERED_KEYS = re.compile(rb'"seq":\d+,"keys":\["([^"]*)"\]')
_LONGEST_REST = 65_536


@dataclass(slots=True)
class Counts:
    """What the fake listeners of one process have received and sent since the last reset."""

    messages: int = 0
    tracking: int = 0
    bytes: int = 0
    mgets: int = 0
    scripts: int = 0
    delays_ms: list[float] = field(default_factory=list)
    """From the time in a message's `source` (ns of the monotonic clock) to its arrival here."""


@dataclass(slots=True)
class Behaviour:
    """What a listener does after a message; see the module's docstring."""

    verify: bool = False
    elect: bool = False
    timed: bool = False
    lazy: bool = False
    """Read once a second: the server's work is the same, and the machine has time for those that are timed."""
    counts: bool = True
    """False: only the bytes are counted, which takes the least time."""
    invalidate_sha: str = ""


def encode(*words: str | bytes) -> bytes:
    """Return a command as Redis' protocol has it."""
    parts = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class FakeListener:
    """One connection. For one thread, which calls `receive` when the socket can be read, and `tick` often."""

    def __init__(
        self, port: int, database: int, keys: KeySpace, number: int, *, tracking: bool, counts: Counts
    ) -> None:
        self._keys = keys
        self._counts = counts
        self._identity = f"fake:{number}:{number:08x}"
        self._beat = (
            encode("UNLINK", keys.beat),
            encode("INFO", "REPLICATION"),
            encode("GET", keys.sequence),
        )
        self._rest = b""
        self._pending: dict[bytes, tuple[float, int]] = {}
        self._sequence = b""
        self._beat_at_s = self._register_at_s = 0.0
        self.behaviour = Behaviour()
        self.link = socket.create_connection((HOST, port))
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._send(encode("HELLO", "3"), encode("SELECT", str(database)))
        self._send(encode("SUBSCRIBE", keys.channel, keys.queries))
        if tracking:
            prefixes = [word for name in ENTITIES for word in ("PREFIX", keys.data(f"{name}_"))]
            self._send(encode("CLIENT", "TRACKING", "ON", "BCAST", *prefixes))
        self._send(encode("PING"))
        received = b""
        while b"+PONG\r\n" not in received:  # the subscription is then confirmed
            received += self.link.recv(4096)

    def tick(self, now_s: float) -> None:
        """Send what is due: the heartbeat, the register, the requests that nobody carried out."""
        if now_s >= self._beat_at_s:
            self._beat_at_s = now_s + BEAT_S
            self._send(*self._beat)
        if now_s >= self._register_at_s:
            self._register_at_s = now_s + REGISTER_S
            about = f'{{"pid": 4711, "host": "fake", "started_at_s": {time.time():.6f}}}'
            self._send(encode("EXISTS", self._keys.l1_off))
            self._send(encode("EVAL", SCRIPT_TEST, "0"))
            self._send(encode("HSET", self._keys.workers, self._identity, about))
        if self._pending:
            for key, (due_s, tries) in list(self._pending.items()):
                if due_s <= now_s:
                    if tries < MAX_REFUSALS:
                        # Until a message covers it; a worker also learns from the script's answer.
                        self._pending[key] = now_s + draw_delay_s() * 2 ** (tries + 1), tries + 1
                    else:
                        del self._pending[key]
                    self._carry_out(key.decode(), conditional=tries < MAX_REFUSALS)

    def spread(self, now_s: float, part: float) -> None:
        """Place the first heartbeat and the first registration, so that the listeners do not send in step."""
        self._beat_at_s = now_s + part * BEAT_S
        self._register_at_s = now_s + part * REGISTER_S

    def receive(self, now: Callable[[], int] = time.monotonic_ns) -> bool:
        """Read what has arrived and count it. Returns False if the server has closed the connection."""
        data = self.link.recv(262_144)
        if not data:
            return False
        counts, behaviour = self._counts, self.behaviour
        counts.bytes += len(data)
        if not behaviour.counts:
            return True
        buffer = self._rest + data if self._rest else data
        end = 0
        for push in _PUSH.finditer(buffer):
            message, keys = push.group("message"), push.group("keys")
            if message is not None:
                counts.messages += 1
                if behaviour.timed and (source := _SOURCE.search(message)):
                    counts.delays_ms.append((now() - int(source[1])) / 1e6)
                if behaviour.elect:
                    self._on_message(message)
            else:
                if len(found := _KEY.findall(keys)) < int(push.group("count")):
                    break  # the rest of the list has not arrived
                counts.tracking += 1
                if behaviour.verify:
                    counts.mgets += 1
                    self._send(encode("MGET", *found))
            end = push.end()
        start = buffer.find(b">", end)
        self._rest = b"" if start < 0 or len(buffer) - start > _LONGEST_REST else buffer[start:]
        return True

    def close(self) -> None:
        """Close the connection."""
        self.link.close()

    def _on_message(self, message: bytes) -> None:
        if not message.startswith(b"{"):
            self._pending[message] = time.monotonic() + draw_delay_s(), 0
            return
        if numbered := _SEQUENCE.search(message):
            self._sequence = numbered[1]
        if covered := _NUMBERED_KEYS.search(message):
            self._pending.pop(covered[1], None)

    def _carry_out(self, key: str, *, conditional: bool) -> None:
        """Run the script that `SingleServerL2.carry_out` runs."""
        self._counts.scripts += 1
        head, tail = own_message_parts(Invalidation(keys=(key,), source=self._identity))
        names = [self._keys.sequence, *self._keys.group(key)]
        sha = self.behaviour.invalidate_sha
        expected = [self._sequence] if conditional and self._sequence else []
        self._send(encode("EVALSHA", sha, str(len(names)), *names, self._keys.channel, head, tail, *expected))

    def _send(self, *commands: bytes) -> None:
        self.link.sendall(b"".join(commands))
