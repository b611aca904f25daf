"""L2 on a single Redis server: each operation is one round trip, except those that scan.

Scripts do what must be atomic. Every redis-py error becomes `L2Unavailable` here; the callers decide how to
continue without L2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

from redis import Redis
from redis.exceptions import InvalidResponse, ReadOnlyError, ResponseError

from servease_appt.cache.breaker import Breaker
from servease_appt.cache.errors import L2RefusedWrite, L2Unavailable
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.commands import LuaScript, send
from servease_appt.cache.l2.protocol import (
    EMPTIED_NOTED_S,
    Announced,
    Fill,
    Lease,
    SequenceWatch,
    Write,
    WriteMode,
    Written,
)
from servease_appt.cache.l2.script_calls import (
    fill_args,
    fingerprint,
    items,
    read_leases,
    read_stored,
    script_source,
)
from servease_appt.cache.messages import STARTS, Invalidation, own_message_parts, sequence_of
from servease_appt.cache.refusals import Refusals
from servease_appt.cache.stats import Observer
from servease_appt.cache.wire import Argument

T = TypeVar("T")
SCAN_BATCH = 1000
_VALUE_TYPES = {bytes, type(None)}


class SingleServerL2:
    """`L2` on one server: each operation is one command, one pipeline or one script."""

    listens_where_it_reads = True

    def __init__(
        self, client: Redis, keys: KeySpace, breaker: Breaker, observer: Observer | None = None
    ) -> None:
        self.client = client
        self.keys = keys
        self.breaker = breaker
        self._observer = observer
        self.refusals = Refusals()
        self.watch: SequenceWatch | None = None
        self.on_demoted: Callable[[], None] | None = None
        self.unheard_nodes: set[str] = set()
        self.old_nodes: set[str] = set()
        self._acquire = _script(client, "acquire")
        self._fill = _script(client, "fill")
        self._release = _script(client, "release")
        self._invalidate = _script(client, "invalidate")
        self._write = _script(client, "write")
        self._increment = _script(client, "increment")
        self._discard = _script(client, "discard")
        self._read_timed = _script(client, "read_timed")

    def read(self, keys: Sequence[str]) -> tuple[list[bytes | None], int | None]:
        """See `L2.read`. Sends one MGET."""
        prefix = self.keys.data("")
        names = [prefix + key for key in keys]

        def fetch() -> list[bytes | None]:
            stored = items(send(self.client, "MGET", *names, self.keys.sequence), len(names) + 1)
            if not _VALUE_TYPES.issuperset(map(type, stored)):
                raise InvalidResponse("the answer to MGET has an item that is no value")
            return stored

        *payloads, sequence = self._run("read", fetch)
        return payloads, sequence_of(sequence)

    def read_timed(self, keys: Sequence[str]) -> tuple[list[bytes | None], list[int], int | None]:
        """See `L2.read_timed`."""
        names = [*map(self.keys.data, keys), self.keys.sequence]

        def fetch() -> list[Any]:
            return items(self._read_timed(keys=names, args=[len(keys)]), 2 * len(keys) + 1)

        *answers, sequence = self._run("read", fetch)
        return answers[::2], answers[1::2], sequence_of(sequence)

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
        purpose = "refresh" if refresh else "load"
        wanted = [take_over.get(key, b"") for key in keys] if take_over else ()

        def ask() -> tuple[list[Lease], int | None]:
            names = [name for key in keys for name in self.keys.group(key)]
            answer = self._acquire(
                keys=[*names, self.keys.sequence], args=[token, lease_ms, purpose, *wanted]
            )
            leases = read_leases(answer, token.encode(), len(keys))
            return leases, sequence_of(answer[1])

        seen = self._seen()
        leases, sequence = self._run("acquire", ask)
        if self.watch is not None:
            self.watch.observe(seen, sequence)
            if self.watch.l2_is_old:
                raise L2Unavailable("the server has lost invalidations")
        return leases

    def fill(self, fills: Sequence[Fill]) -> list[bool]:
        """See `L2.fill`."""
        args = [field for fill in fills for field in fill_args(fill)]

        def store() -> list[bool]:
            names = [name for fill in fills for name in self.keys.group(fill.key)]
            return read_stored(self._fill(keys=names, args=args), len(fills))

        return self._run("fill", store)

    def release(self, leases: Sequence[tuple[str, bytes]]) -> None:
        """See `L2.release`."""
        self._run(
            "release",
            lambda: self._release(
                keys=[self.keys.lease(key) for key, _ in leases], args=[token for _, token in leases]
            ),
        )

    def discard(self, seen: Sequence[tuple[str, bytes]]) -> None:
        """See `L2.discard`."""
        self._run(
            "discard",
            lambda: self._discard(
                keys=[self.keys.data(key) for key, _ in seen],
                args=[fingerprint(payload) for _, payload in seen],
            ),
        )

    def ttl_ms(self, keys: Sequence[str]) -> list[int]:
        """See `L2.ttl_ms`."""

        def pipelined() -> list[int]:
            with self.client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.pttl(self.keys.data(key))
                return cast("list[int]", pipeline.execute())

        return self._run("ttl_ms", pipelined)

    def invalidate(self, keys: Sequence[str], source: str) -> Announced:
        """See `L2.invalidate`."""
        head, tail = own_message_parts(Invalidation(keys=tuple(keys), source=source))
        names = [name for key in keys for name in self.keys.group(key)]
        return self._announced(self._announce(names, head, tail))

    def carry_out(self, request: Invalidation, source: str, *, if_at: int | None = None) -> int | None:
        """See `L2.carry_out`."""
        message = replace(request, source=source)
        if request.pattern is None:
            names = [name for key in request.keys for name in self.keys.group(key)]
            announced = self._announce(names, *own_message_parts(message), if_at=if_at)
            return None if announced is None else announced.sequence
        began = self.announce_start(request.pattern, source, if_at=if_at)
        return None if began is None else self._delete_all_matching(replace(message, began=began))

    def announce_start(self, pattern: str, source: str, *, if_at: int | None = None) -> int | None:
        """See `L2.announce_start`."""
        message = Invalidation(pattern=pattern, source=source, began=STARTS)
        announced = self._announce([], *own_message_parts(message), if_at=if_at)
        return None if announced is None else announced.sequence

    def write(
        self, writes: Sequence[Write], source: str, *, mode: WriteMode = WriteMode.ALWAYS, l1_ms: int = 0
    ) -> list[Written]:
        """See `L2.write`."""
        head, tail = own_message_parts(Invalidation(keys=tuple(w.key for w in writes), source=source))
        names = [name for write in writes for name in self.keys.group(write.key)]
        values: list[bytes | int] = [field for write in writes for field in (write.payload, write.ttl_ms)]

        def store() -> tuple[list[Written], int | None]:
            args: list[bytes | str | int] = [mode, l1_ms, self.keys.channel, head, tail, *values]
            answers = self._write(keys=[*names, self.keys.sequence], args=args)
            *results, sequence = items(answers, len(writes) + 1)
            return [Written(result) for result in results], sequence_of(sequence)

        seen = self._seen()
        written, sequence = self._run("write", store)
        if sequence is not None:
            self._counted(seen, sequence)
        return written

    def increment(self, key: str, delta: int, source: str) -> bytes:
        """See `L2.increment`."""
        head, tail = own_message_parts(Invalidation(keys=(key,), source=source))
        names = [*self.keys.group(key), self.keys.sequence]
        args: list[str | int] = [delta, self.keys.channel, head, tail]
        seen = self._seen()
        number, sequence = self._run("increment", lambda: items(self._increment(keys=names, args=args), 2))
        counted = sequence_of(sequence)
        if counted is not None:
            self._counted(seen, counted)
        return cast("bytes", number)

    def invalidate_matching(self, pattern: str, source: str) -> int:
        """See `L2.invalidate_matching`."""
        return self._delete_all_matching(Invalidation(pattern=pattern, source=source))

    def _delete_all_matching(self, message: Invalidation) -> int:
        """Delete what matches the pattern of a message, then publish the message.

        It is not atomic, and still correct: a first scan deletes the leases. So every load that began before it is
        either refused or has stored its value before the second scan begins, which then finds the value (a SCAN
        returns each key that exists from its start to its end).
        """
        pattern, keys = message.pattern or "", self.keys.patterns
        for name in (keys.lease, keys.data, keys.stale_copy, keys.absent):
            scan = partial(self._delete_matching, name(pattern), values=name == keys.data)
            self._run("invalidate_matching", scan, guarded=False)
        return self._announced(self._announce([], *own_message_parts(message))).sequence

    def is_emptied(self, history: str, within_s: float) -> bool:
        """See `L2.is_emptied`."""
        name = self.keys.emptied
        left_ms = self._run("is_emptied", lambda: self.client.pttl(name))
        stored = self._run("is_emptied", lambda: self.client.get(name))
        return stored == history.encode() and left_ms >= 0 and EMPTIED_NOTED_S - left_ms / 1000 < within_s

    def mark_emptied(self, history: str, began_s_ago: float) -> None:
        """See `L2.mark_emptied`. The age is kept as the TTL, by the server's clock."""
        ttl_ms = max(1, int((EMPTIED_NOTED_S - began_s_ago) * 1000))
        self._run("mark_emptied", lambda: self.client.set(self.keys.emptied, history, px=ttl_ms))

    def scan(self, pattern: str) -> Iterator[str]:
        """See `L2.scan`."""
        return self._keys_on(self.client, pattern)

    def node_of(self, key: str) -> str:  # noqa: ARG002 - the interface's
        """See `L2.node_of`."""
        return ""

    def empty_node(self, name: str, source: str) -> None:
        """See `L2.empty_node`. A single server is emptied as a whole."""

    def ping(self) -> None:
        """See `L2.ping`."""
        self._run("ping", self.client.ping, guarded=False)

    def _announce(
        self, names: Sequence[str], head: str, tail: str, *, if_at: int | None = None
    ) -> Announced | None:
        """Delete and publish. Returns None if the sequence was not `if_at`, and nothing was done."""
        args: list[str | int] = [self.keys.channel, head, tail, *(() if if_at is None else (if_at,))]
        seen = self._seen()
        answer = self._run(
            "invalidate",
            lambda: self._delete_and_publish([self.keys.sequence, *names], args),
            guarded=False,
        )
        if answer is None and if_at is not None:
            return None
        sequence, listeners = items(answer, 2)
        self._counted(seen, int(sequence))
        return Announced(int(sequence), listeners)

    def _delete_and_publish(self, names: Sequence[str], args: Sequence[Argument]) -> Any:
        return self._invalidate(keys=names, args=args)

    @staticmethod
    def _announced(announced: Announced | None) -> Announced:
        """Return what an announcement without condition has returned."""
        if announced is None:
            raise L2Unavailable("the server did not return the sequence")
        return announced

    def _seen(self) -> int:
        return 0 if self.watch is None else self.watch.highest_sequence_seen()

    def _compare(self, seen: int, sequence: int | None) -> None:
        if self.watch is not None:
            self.watch.compare(seen, sequence)

    def _counted(self, seen: int, sequence: int) -> None:
        """Compare the sequence before the server's increment, and note the new one."""
        self._compare(seen, sequence - 1)
        if self.watch is not None:
            self.watch.acknowledge(sequence)

    def _delete_matching(self, pattern: str, *, values: bool) -> None:
        """Delete the keys that a SCAN finds; with `values`, only values."""
        names = self._names_on(self.client, pattern, values=values)
        while batch := list(islice(names, SCAN_BATCH)):
            self.client.unlink(*batch)

    def _keys_on(self, server: Redis, pattern: str) -> Iterator[str]:
        """Yield the keys of one server's values that match."""
        for name in self._names_on(server, self.keys.patterns.data(pattern), values=True):
            yield self.keys.plain(name.decode(errors="replace"))

    def _names_on(self, server: Redis, pattern: str, *, values: bool) -> Iterator[bytes]:
        """Return the names that a SCAN of one server finds; with `values`, without those of other keys."""
        reserved = self.keys.reserved.encode()
        found: Iterator[bytes] = server.scan_iter(match=pattern, count=SCAN_BATCH)
        return (name for name in found if not (values and name.startswith(reserved)))

    def _leave_demoted_server(self) -> None:
        """Drop idle connections: the host name may now lead to another server, which accepts writes."""
        self.client.connection_pool.disconnect(inuse_connections=False)
        if self.on_demoted is not None:
            self.on_demoted()

    def _failed(self) -> None:
        """Report a failed operation to the breaker."""
        self.breaker.failed()

    def _run(self, name: str, operation: Callable[[], T], *, guarded: bool = True) -> T:
        """Run an operation: map redis-py's errors, report to the breaker, and time it under `name`."""
        if guarded and not self.breaker.allows():
            raise L2Unavailable("the breaker is open")
        outcome, started_s = "error", time.monotonic()
        try:
            result = operation()
            outcome = "ok"
        except ResponseError as error:
            outcome = "refused"
            self.breaker.succeeded()
            self.refusals.refused(name, error)
            if isinstance(error, ReadOnlyError):
                self._leave_demoted_server()
            raise L2RefusedWrite(str(error)) from error
        except Exception as error:  # redis-py also raises other types, and its parser the ValueError of int()
            self._failed()
            raise L2Unavailable(f"{type(error).__name__}: {error}") from error
        finally:
            if self._observer is not None:
                self._observer.redis_operation(name, time.monotonic() - started_s, outcome)
        self.breaker.succeeded()
        self.refusals.accepted(name)
        return result


def _script(client: Redis, name: str) -> LuaScript:
    return LuaScript(client, script_source(name).encode())
