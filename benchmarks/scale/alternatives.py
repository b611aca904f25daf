"""Other ways to tell workers of changes, measured on the same server: what they would cost Redis.

Their sockets are not read: what the server sends stays in the kernel's buffers, which are large enough.
"""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from redis import Redis

from benchmarks.cpu import cpu_seconds
from benchmarks.scale.fake_listener import encode
from benchmarks.scale.operations import Writer, new_keys, one_by_one
from servease_appt.cache import connect
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import HOST, EmbeddedValkey, free_port

PREFIX = "bench_other"
CHANNEL = f"{PREFIX}:invalidate"
MESSAGE = f'{{"v":1,"source":"worker-1:4711:0123abcd","seq":1763816400000042,"keys":["customer_{1:036}"]}}'
SETTLE_S = 0.3


def measure_alternatives(connections: int, keys: int, calls: int) -> dict[str, float]:
    """Return costs in µs of one core, and bytes, by name."""
    with EmbeddedValkey() as server, connect(server.url(1), timeout_s=30.0) as client:
        results = _tracking_by_reads(server, Writer.of(client, PREFIX), connections, keys, calls)
        results |= {"PUBLISH, for each subscriber": _published(server, client, connections, calls, "")}
    with (
        EmbeddedValkey(options=["--cluster-enabled", "yes", "--cluster-port", str(free_port())]) as node,
        Redis.from_url(node.url(0), protocol=3) as client,
    ):
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        ready = partial(_is_complete, client)
        if not wait_until(ready, timeout_s=15, interval_s=0.05):
            raise RuntimeError("the cluster of one node is not complete")
        results |= {"SPUBLISH, for each subscriber": _published(node, client, connections, calls, "S")}
    return {name: round(value, 3) for name, value in results.items()}


def _is_complete(client: Redis) -> bool:
    return b"cluster_state:ok" in bytes(str(client.execute_command("CLUSTER", "INFO")), "utf-8")  # type: ignore[no-untyped-call]


def _tracking_by_reads(
    server: EmbeddedValkey, writer: Writer, connections: int, count: int, calls: int
) -> dict[str, float]:
    """Measure tracking of the keys that a connection has read, instead of all keys under a prefix."""
    keys = new_keys(count)
    writer.fill(keys)
    read = encode("MGET", *map(writer.keys.data, keys))
    with _connected(server, connections, database=1) as plain:
        plain_s = _busy_s(server, lambda: _send_all(plain, read))
    with _connected(server, connections, encode("CLIENT", "TRACKING", "ON"), database=1) as tracked:
        before = int(writer.client.info("memory")["used_memory"])
        tracked_s = _busy_s(server, lambda: _send_all(tracked, read))
        held = int(writer.client.info("memory")["used_memory"]) - before
        refresh_s = _busy_s(server, partial(one_by_one, writer.refresh, keys[:calls]))
        fill_s = _busy_s(server, partial(one_by_one, writer.fill, new_keys(calls)))
    reads = connections * count
    return {
        "read of a key": plain_s * 1e6 / reads,
        "read of a key that is then tracked": tracked_s * 1e6 / reads,
        "memory for each key and connection, bytes": held / reads,
        "refresh, for each connection that has read the key": (refresh_s - fill_s)
        * 1e6
        / calls
        / connections,
        "fill of a key that nobody has read": fill_s * 1e6 / calls,
    }


def _published(server: EmbeddedValkey, client: Redis, connections: int, calls: int, kind: str) -> float:
    subscribe = encode(f"{kind}SUBSCRIBE", CHANNEL)
    with _connected(server, connections, subscribe, database=0):
        publish = partial(client.execute_command, f"{kind}PUBLISH", CHANNEL, MESSAGE)
        return _busy_s(server, lambda: [publish() for _ in range(calls)]) * 1e6 / calls / connections


@contextmanager
def _connected(
    server: EmbeddedValkey, count: int, *commands: bytes, database: int
) -> Iterator[list[socket.socket]]:
    first = [encode("HELLO", "3"), *([encode("SELECT", str(database))] if database else []), *commands]
    links = [socket.create_connection((HOST, server.port)) for _ in range(count)]
    try:
        _send_all(links, b"".join(first))
        time.sleep(SETTLE_S)
        yield links
    finally:
        for link in links:
            link.close()


def _send_all(links: Sequence[socket.socket], command: bytes) -> None:
    for link in links:
        link.sendall(command)


def _busy_s(server: EmbeddedValkey, work: Callable[[], object]) -> float:
    """Return the processor time of the server for some work, with all that it sends afterwards."""
    used_s = cpu_seconds([server.pid])
    work()
    time.sleep(SETTLE_S)
    return cpu_seconds([server.pid]) - used_s
