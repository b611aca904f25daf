"""L2 on a server in memory. Each operation does what the script of the same name does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from servease_appt.cache.breaker import Breaker
from servease_appt.cache.errors import L2RefusedWrite, L2Unavailable
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.protocol import (
    EMPTIED_NOTED_S,
    Announced,
    Fill,
    Lease,
    LeaseState,
    SequenceWatch,
    Write,
    WriteMode,
    Written,
)
from servease_appt.cache.messages import STARTS, Invalidation, own_message_parts, sequence_of
from servease_appt.cache.refusals import Refusals
from servease_appt.cache.stats import Observer

if TYPE_CHECKING:
    from servease_appt.cache.testing.memory_server import MemoryServer

_INT64 = range(-(2**63), 2**63)


class MemoryL2:
    """`L2` on a `MemoryServer`. Thread-safe."""

    listens_where_it_reads = True

    def __init__(
        self, server: MemoryServer, keys: KeySpace, breaker: Breaker, observer: Observer | None = None
    ) -> None:
        self.client: Any = server
        self.watch: SequenceWatch | None = None
        self.on_demoted: Callable[[], None] | None = None
        self.refusals: Refusals = Refusals()
        self.unheard_nodes: set[str] = set()
        self.old_nodes: set[str] = set()
        self._server = server
        self._keys = keys
        self._breaker = breaker
        self._observer = observer

    def node_of(self, key: str) -> str:  # noqa: ARG002 - the interface's
        """See `L2.node_of`."""
        return ""

    def empty_node(self, name: str, source: str) -> None:
        """See `L2.empty_node`. One server is emptied as a whole."""

    def read(self, keys: Sequence[str]) -> tuple[list[bytes | None], int | None]:
        """See `L2.read`."""
        with self._operation("read") as server:
            payloads = [server.get(self._keys.data(key)) for key in keys]
            return payloads, sequence_of(server.get(self._keys.sequence))

    def read_timed(self, keys: Sequence[str]) -> tuple[list[bytes | None], list[int], int | None]:
        """See `L2.read_timed`."""
        with self._operation("read") as server:
            payloads, sequence = self.read(keys)
            return payloads, [server.left_ms(self._keys.data(key)) for key in keys], sequence

    def acquire(
        self,
        keys: Sequence[str],
        token: str,
        lease_ms: int,
        *,
        take_over: dict[str, bytes] | None = None,
        refresh: bool = False,
    ) -> list[Lease]:
        """See `L2.acquire`."""
        wanted = take_over or {}
        with self._operation("acquire") as server:
            seen = 0 if self.watch is None else self.watch.highest_sequence_seen()
            leases = [
                self._acquire_one(server, key, token.encode(), lease_ms, wanted.get(key), refresh=refresh)
                for key in keys
            ]
            sequence = sequence_of(server.get(self._keys.sequence))
        if self.watch is not None:
            self.watch.compare(seen, sequence)
            if self.watch.l2_is_old:
                raise L2Unavailable("the server has lost invalidations")
        return leases

    def _acquire_one(
        self,
        server: MemoryServer,
        key: str,
        token: bytes,
        lease_ms: int,
        wanted: bytes | None,
        *,
        refresh: bool,
    ) -> Lease:
        data, lease, absent, copy = self._keys.group(key)
        value, holder, stale = server.get(data), server.get(lease), server.get(copy)
        if value is not None and not refresh:
            return Lease(LeaseState.VALUE, value)
        if server.get(absent) is not None and not refresh:
            return Lease(LeaseState.ABSENT)
        if holder is not None and (holder != wanted or b"#" in holder):
            return Lease(LeaseState.HELD, holder, stale)
        granted = token if holder is None else holder + b"#" + token
        server.set(lease, granted, lease_ms)
        return Lease(LeaseState.GRANTED, granted, stale)

    def fill(self, fills: Sequence[Fill]) -> list[bool]:
        """See `L2.fill`."""
        with self._operation("fill") as server:
            return [self._fill_one(server, fill) for fill in fills]

    def _fill_one(self, server: MemoryServer, fill: Fill) -> bool:
        data, lease, absent, copy = self._keys.group(fill.key)
        holder = server.get(lease)
        if holder is None or _fence(holder) != _fence(fill.token):
            return False
        if fill.payload is None:
            server.delete(data, copy, lease)
            if fill.ttl_ms:
                server.set(absent, b"1", fill.ttl_ms)
            return True
        server.set(data, fill.payload, fill.ttl_ms)
        if fill.stale_ms:
            server.set(copy, fill.payload, fill.stale_ms)
        server.delete(absent, lease)
        return True

    def release(self, leases: Sequence[tuple[str, bytes]]) -> None:
        """See `L2.release`."""
        with self._operation("release") as server:
            for key, token in leases:
                if server.get(self._keys.lease(key)) == token:
                    server.delete(self._keys.lease(key))

    def discard(self, seen: Sequence[tuple[str, bytes]]) -> None:
        """See `L2.discard`."""
        with self._operation("discard") as server:
            for key, payload in seen:
                if server.get(self._keys.data(key)) == payload:
                    server.delete(self._keys.data(key))

    def ttl_ms(self, keys: Sequence[str]) -> list[int]:
        """See `L2.ttl_ms`."""
        with self._operation("ttl_ms") as server:
            return [server.left_ms(self._keys.data(key)) for key in keys]

    def invalidate(self, keys: Sequence[str], source: str) -> Announced:
        """See `L2.invalidate`."""
        with self._operation("invalidate", guarded=False) as server:
            for key in keys:
                server.delete(*self._keys.group(key))
            sequence = self._announce(server, Invalidation(keys=tuple(keys), source=source))
            return Announced(sequence, server.subscribers(self._keys.channel))

    def write(
        self, writes: Sequence[Write], source: str, *, mode: WriteMode = WriteMode.ALWAYS, l1_ms: int = 0
    ) -> list[Written]:
        """See `L2.write`."""
        with self._operation("write") as server:
            results = [self._write_one(server, write, mode, l1_ms) for write in writes]
            if Written.CHANGED in results:
                self._announce(server, Invalidation(keys=tuple(w.key for w in writes), source=source))
            return results

    def _write_one(self, server: MemoryServer, write: Write, mode: WriteMode, l1_ms: int) -> Written:
        data, *others = self._keys.group(write.key)
        held = server.get(data)
        same = held == write.payload
        if (mode is WriteMode.IF_ABSENT and held is not None) or (mode is WriteMode.IF_SAME and not same):
            return Written.REFUSED
        left_ms = server.left_ms(data)
        server.delete(*others)
        server.set(data, write.payload, write.ttl_ms)
        if not same:
            return Written.CHANGED
        shorter = write.ttl_ms and (left_ms == -1 or left_ms > write.ttl_ms)
        return Written.CHANGED if shorter and write.ttl_ms < l1_ms else Written.WAS_THERE

    def increment(self, key: str, delta: int, source: str) -> bytes:
        """See `L2.increment`."""
        with self._operation("increment") as server:
            data, *others = self._keys.group(key)
            try:
                number = int(server.get(data) or b"0") + delta
            except ValueError as error:
                raise L2RefusedWrite("the value is not an integer") from error
            if number not in _INT64:
                raise L2RefusedWrite("the increment would overflow")
            left_ms = server.left_ms(data)
            server.set(data, str(number).encode(), max(0, left_ms))
            server.delete(*others)
            self._announce(server, Invalidation(keys=(key,), source=source))
            return str(number).encode()

    def carry_out(self, request: Invalidation, source: str, *, if_at: int | None = None) -> int | None:
        """See `L2.carry_out`. It is atomic, so the start of a pattern's deletion is never announced by itself."""
        message = replace(request, source=source)
        with self._operation("invalidate", guarded=False) as server:
            if if_at is not None and sequence_of(server.get(self._keys.sequence)) != if_at:
                return None
            if message.pattern is not None:
                message = replace(message, began=self._announce(server, replace(message, began=STARTS)))
            return self._delete_and_announce(server, message)

    def announce_start(self, pattern: str, source: str, *, if_at: int | None = None) -> int | None:
        """See `L2.announce_start`."""
        with self._operation("invalidate", guarded=False) as server:
            if if_at is not None and sequence_of(server.get(self._keys.sequence)) != if_at:
                return None
            return self._announce(server, Invalidation(pattern=pattern, source=source, began=STARTS))

    def invalidate_matching(self, pattern: str, source: str) -> int:
        """See `L2.invalidate_matching`."""
        with self._operation("invalidate_matching", guarded=False) as server:
            return self._delete_and_announce(server, Invalidation(pattern=pattern, source=source))

    def _delete_and_announce(self, server: MemoryServer, message: Invalidation) -> int:
        matching = () if message.pattern is None else list(self._matching(server, message.pattern))
        for key in (*message.keys, *matching):
            server.delete(*self._keys.group(key))
        return self._announce(server, message)

    def is_emptied(self, history: str, within_s: float) -> bool:
        """See `L2.is_emptied`."""
        with self._operation("is_emptied") as server:
            left_ms = server.left_ms(self._keys.emptied)
            noted = server.get(self._keys.emptied) == history.encode() and left_ms >= 0
            return noted and EMPTIED_NOTED_S - left_ms / 1000 < within_s

    def mark_emptied(self, history: str, began_s_ago: float) -> None:
        """See `L2.mark_emptied`."""
        with self._operation("mark_emptied") as server:
            ttl_ms = max(1, int((EMPTIED_NOTED_S - began_s_ago) * 1000))
            server.set(self._keys.emptied, history.encode(), ttl_ms)

    def scan(self, pattern: str) -> Iterator[str]:
        """See `L2.scan`."""
        with self._operation("scan", guarded=False) as server:
            stored = set(server.names())
            matching = list(self._matching(server, pattern))
        yield from (key for key in matching if self._keys.data(key) in stored)

    def ping(self) -> None:
        """See `L2.ping`."""
        with self._operation("ping", guarded=False):
            pass

    def _matching(self, server: MemoryServer, pattern: str) -> Iterator[str]:
        """Yield the keys of which anything is stored."""
        keys = {self._key_of(name) for name in server.names()}
        yield from (key for key in sorted(filter(None, keys)) if fnmatchcase(key, pattern))

    def _key_of(self, name: str) -> str:
        """Return the key to which a stored name belongs; '' if it belongs to none."""
        if name.endswith("}"):
            name = name[:-1].partition("{")[2]
        key = self._keys.plain(name)
        return "" if key == name or key.startswith("__") else key

    def _announce(self, server: MemoryServer, invalidation: Invalidation) -> int:
        sequence = server.announce(self._keys, *own_message_parts(invalidation))
        if self.watch is not None:
            self.watch.acknowledge(sequence)
        return sequence

    @contextmanager
    def _operation(self, name: str, *, guarded: bool = True) -> Iterator[MemoryServer]:
        """Hold the server for one operation; report to the breaker if it is down."""
        if guarded and not self._breaker.allows():
            raise L2Unavailable("the breaker is open")
        if self._server.down:
            self._breaker.failed()
            raise L2Unavailable("the server is down")
        with self._server.lock:
            yield self._server
        self._breaker.succeeded()
        if self._observer is not None:
            self._observer.redis_operation(name, 0.0, "ok")


def _fence(lease: bytes) -> bytes:
    return lease.partition(b"#")[0]
