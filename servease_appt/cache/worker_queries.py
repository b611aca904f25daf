"""WorkerQueries that a command or a dashboard puts to all workers at once, and how a worker answers.

A question is published on the same server as the invalidations, and each worker hears both on one connection, in
one order: whoever has answered has handled every invalidation that was published before the question.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, cast

from redis import Redis

from servease_appt.cache.codecs import Codecs
from servease_appt.cache.event_log import EventLog, LoggedEvent
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import L1, NOT_FOUND
from servease_appt.cache.listener import Listener

V = TypeVar("V")

WATCH_S = 5.0
REPLY_LIFE_S = 30
EVENTS_A_MESSAGE = 200
# Answers are polled for, more and more slowly: a blocking pop would run into the client's own short timeout.
POLL_S = (0.0005, 0.02)


class QueryResponder(Generic[V]):
    """Answers worker_queries for one process; called on the listener's thread, so it only queues what it sends."""

    def __init__(
        self,
        *,
        identity: str,
        describe: Callable[[], dict[str, Any]],
        l1: L1[V],
        event_log: EventLog,
        listener: Listener,
        keys: KeySpace,
        codecs: Codecs[V],
    ) -> None:
        self._identity = identity
        self._describe = describe
        self._l1 = l1
        self._event_log = event_log
        self._listener = listener
        self._keys = keys
        self._codecs = codecs

    def answer(self, payload: bytes) -> None:
        """Answer one question; what can't be read is passed over."""
        try:
            question = json.loads(payload)
            what, reply_to = question["what"], question.get("reply_to", "")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return
        if what == "watch":
            self._event_log.watch(self._publish, WATCH_S)
            return
        if what not in ("heard", "status", "explain") or not self._is_ours(reply_to):
            return
        answer: dict[str, Any] = {"worker": self._identity, "pid": os.getpid()}
        if what == "status":
            answer |= self._describe()
        elif what == "explain":
            answer |= self._explain(str(question.get("key", "")))
        self._send("RPUSH", reply_to, json.dumps(answer))
        self._send("EXPIRE", reply_to, str(REPLY_LIFE_S))

    def _is_ours(self, reply_to: object) -> bool:
        return isinstance(reply_to, str) and reply_to.startswith(f"{self._keys.prefix}:__reply:")

    def _explain(self, key: str) -> dict[str, Any]:
        now = time.monotonic()
        entry = self._l1.held((key,)).get(key)
        held = None
        if entry is not None:
            held = {
                "age_s": round(now - entry.loaded_at_s, 3),
                "left_s": round(entry.expires_at_s - now, 3),
                "absent": entry.value is NOT_FOUND,
                "trusted": now < self._l1.trusted_until_s,
                "digest": "" if entry.value is NOT_FOUND else digest(self._codecs, key, entry.value),
            }
        return {"l1": held, "events": [logged.as_json() for logged in self._event_log.last_of(key)]}

    def _publish(self, events: list[LoggedEvent]) -> None:
        for start in range(0, len(events), EVENTS_A_MESSAGE):
            batch = [logged.as_json() for logged in events[start : start + EVENTS_A_MESSAGE]]
            self._send("PUBLISH", self._keys.events, json.dumps({"worker": self._identity, "events": batch}))

    def _send(self, *command: str) -> None:
        self._listener.send_soon(*command)


def digest(codecs: Codecs[V], key: str, value: V) -> str:
    """What tells two values of a key apart without showing either."""
    return hashlib.sha256(codecs.of(key).encode(value)).hexdigest()[:12]


class WorkerQueries:
    """The asking side, for commands and the dashboard. Raises redis-py's errors when the server is away."""

    def __init__(self, client: Redis, keys: KeySpace, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock

    def listeners(self) -> int:
        """How many workers listen."""
        ((_, count),) = self._client.pubsub_numsub(self._keys.queries)
        return int(count)

    def reachable(self) -> int:
        """How many workers listen and are registered in this database; those of another can't answer here."""
        return min(self.listeners(), int(self._client.hlen(self._keys.workers)))

    def query(self, what: str, *, timeout_s: float = 1.0, **details: str) -> list[dict[str, Any]]:
        """Ask all listening workers; returns what has come within the time, with `after_ms` of each answer."""
        return list(self.answers(what, timeout_s=timeout_s, expected=None, **details))

    def answers(
        self, what: str, *, timeout_s: float = 1.0, expected: int | None = None, **details: str
    ) -> Iterator[dict[str, Any]]:
        """Yield answers as they come, until all listeners, or `expected`, have answered or the time is over."""
        reply_to = f"{self._keys.prefix}:__reply:{secrets.token_hex(8)}"
        asked_at_s = self._clock()
        question = json.dumps({"what": what, "reply_to": reply_to, **details})
        listening = int(self._client.publish(self._keys.queries, question))
        expected = listening if expected is None else expected
        pause_s, longest_s = POLL_S
        while expected > 0:
            popped = cast("list[bytes] | None", self._client.lpop(reply_to, expected))
            after_ms = (self._clock() - asked_at_s) * 1000
            for payload in popped or ():
                expected -= 1
                answer: dict[str, Any] = json.loads(payload)
                answer["after_ms"] = round(after_ms, 3)
                yield answer
            if not popped:
                if after_ms >= timeout_s * 1000:
                    return
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, longest_s)

    def watch(self) -> None:
        """Have all workers publish their events for the next few seconds; ask again to go on."""
        self._client.publish(self._keys.queries, json.dumps({"what": "watch"}))

    def workers(self) -> dict[str, dict[str, Any]]:
        """Every worker that has registered and not left, by identity: `pid`, `host`, `started_at_s`."""
        registered = cast("dict[bytes, bytes]", self._client.hgetall(self._keys.workers))
        return {identity.decode(): json.loads(about) for identity, about in registered.items()}

    def forget_worker(self, identity: str) -> None:
        """Drop the registration of a worker that has died without leaving."""
        self._client.hdel(self._keys.workers, identity)
