"""Queries by a command or a dashboard to all workers at once, and the workers' answers.

A query is published on the same server as the invalidations. Each worker receives both on one connection, in one
order. So a worker that has answered has handled every invalidation that was published before the query.
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
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from servease_appt.cache.codecs import Codecs
from servease_appt.cache.event_log import EventLog, LoggedEvent
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import L1, NOT_FOUND
from servease_appt.cache.l2.cluster_client import Cluster
from servease_appt.cache.listener import Listener
from servease_appt.cache.redis_client import database_of

V = TypeVar("V")

WATCH_S = 5.0
EVENTS_A_MESSAGE = 200
NO_QUERY = "{}"


class QueryResponder(Generic[V]):
    """Answers queries for one process. It is called on the listener's thread, so it only queues its answers."""

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
        database: int,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._identity = identity
        self._describe = describe
        self._l1 = l1
        self._event_log = event_log
        self._listener = listener
        self._keys = keys
        self._codecs = codecs
        self._clock = clock

    def answer(self, payload: bytes) -> None:
        """Answer one query; an unreadable query is ignored."""
        try:
            question = json.loads(payload)
            what, reply_to = question["what"], question.get("reply_to", "")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return
        if question.get("database", self._database) != self._database:
            return  # messages reach the workers of all databases; this worker caches values of its own only
        if what == "watch":
            self._event_log.watch(self._publish, WATCH_S)
            return
        if what == "l1_switch":
            self._send("EXISTS", self._keys.l1_off)
            return
        if what not in ("heard", "status", "explain", "events") or not self._is_ours(reply_to):
            return
        answer: dict[str, Any] = {"worker": self._identity, "pid": os.getpid()}
        if what == "status":
            answer |= self._describe()
        elif what == "explain":
            answer |= self._explain(str(question.get("key", "")))
        elif what == "events":
            answer["events"] = self._events_since(question.get("since_s"))
        # Published and not stored: a full Redis and a replica refuse writes.
        self._send("PUBLISH", reply_to, json.dumps(answer))

    def _is_ours(self, reply_to: object) -> bool:
        return isinstance(reply_to, str) and reply_to.startswith(f"{self._keys.prefix}:__reply:")

    def _explain(self, key: str) -> dict[str, Any]:
        now = self._clock()
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

    def _events_since(self, since_s: object) -> list[dict[str, float | str]]:
        try:
            at_s = float(str(since_s))
        except ValueError:
            return []
        return [logged.as_json() for logged in self._event_log.since(at_s, EVENTS_A_MESSAGE)]

    def _publish(self, events: list[LoggedEvent]) -> None:
        for start in range(0, len(events), EVENTS_A_MESSAGE):
            batch = [logged.as_json() for logged in events[start : start + EVENTS_A_MESSAGE]]
            self._send("PUBLISH", self._keys.events, json.dumps({"worker": self._identity, "events": batch}))

    def _send(self, *command: str) -> None:
        self._listener.send_soon(*command)


def digest(codecs: Codecs[V], key: str, value: V) -> str:
    """Return a short hash of a value, to compare values of a key without showing them."""
    return hashlib.sha256(codecs.of(key).encode(value)).hexdigest()[:12]


class WorkerQueries:
    """The querying side, for commands and the dashboard. Raises redis-py's errors when the server does not answer.

    Any client may write under the keys that it reads: an unreadable answer or registration is an empty dict.
    """

    def __init__(self, client: Redis, keys: KeySpace, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._database = database_of(client)
        self._keys = keys
        self._clock = clock

    def listeners(self) -> int:
        """Return the number of workers that listen, on all nodes of a cluster.

        They are counted by the answer to an empty query, which workers ignore: Valkey 9.1 answers PUBSUB NUMSUB
        with numbers of eight digits at 8, 15, 16 and other numbers of subscribers.
        """
        if not isinstance(self._client, Cluster):
            return int(self._client.publish(self._keys.queries, NO_QUERY))
        counted: list[int] = []
        error: Exception = RedisConnectionError("the cluster has no nodes")
        for node in self._client.nodes.servers():
            try:
                counted.append(int(node.client.publish(self._keys.queries, NO_QUERY)))
            except RedisError as failure:  # the workers that listen there connect to another node
                error = failure
        if not counted:
            raise error
        return sum(counted)

    def reachable(self) -> int:
        """Return the number of workers that listen and are registered in this database; others don't answer."""
        return min(self.listeners(), int(self._client.hlen(self._keys.workers)))

    def query(self, what: str, *, timeout_s: float = 1.0, **details: str) -> list[dict[str, Any]]:
        """Query all listening workers. Returns the answers of the first `timeout_s` seconds, with `after_ms`."""
        return list(self.answers(what, timeout_s=timeout_s, expected=None, **details))

    def answers(
        self, what: str, *, timeout_s: float = 1.0, expected: int | None = None, **details: str
    ) -> Iterator[dict[str, Any]]:
        """Yield answers as they arrive, until all listeners (or `expected`) have answered or the time is up."""
        reply_to = f"{self._keys.prefix}:__reply:{secrets.token_hex(8)}"
        with self._client.pubsub() as replies:  # type: ignore[no-untyped-call]
            replies.subscribe(reply_to)
            replies.get_message(timeout=timeout_s)  # the confirmation: after it no answer can be missed
            asked_at_s = self._clock()
            question = {"what": what, "reply_to": reply_to, "database": self._database, **details}
            listening = self._publish(question)
            expected = listening if expected is None else expected
            while expected > 0:
                left_s = asked_at_s + timeout_s - self._clock()
                message = replies.get_message(timeout=left_s) if left_s > 0 else None
                if message is None:
                    return
                answer = _read(message["data"])
                expected -= isinstance(answer.get("worker"), str)
                answer["after_ms"] = round((self._clock() - asked_at_s) * 1000, 3)
                yield answer

    def _publish(self, question: dict[str, Any]) -> int:
        """Publish a query. Returns the number of receivers, on all nodes: a cluster's node counts only its own."""
        received = int(self._client.publish(self._keys.queries, json.dumps(question)))
        return self.listeners() if isinstance(self._client, Cluster) else received

    def watch(self) -> None:
        """Make all workers publish their events for the next `WATCH_S` seconds; call again to continue."""
        self._publish({"what": "watch", "database": self._database})

    def switch_l1(self, *, off: bool) -> None:
        """Switch L1 of every worker off, or on again: at once, or within 5 s where the message is lost.

        Workers that start later read the switch when their channel is confirmed. It stays until L1 is switched on
        or the database is flushed.
        """
        if off:
            self._client.set(self._keys.l1_off, int(time.time()))
        else:
            self._client.delete(self._keys.l1_off)
        self._publish({"what": "l1_switch", "database": self._database})

    def l1_off_since_s(self) -> int | None:
        """Return when L1 was switched off, in seconds since 1970; 0 if that can't be read, None if it is on."""
        if not self._client.exists(self._keys.l1_off):
            return None
        try:
            return int(cast("bytes", self._client.get(self._keys.l1_off)))
        except (ResponseError, TypeError, ValueError):  # any client may write under the prefix
            return 0

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return every registered worker by identity, with `pid`, `host` and `started_at_s`."""
        try:
            registered = cast("dict[bytes, bytes]", self._client.hgetall(self._keys.workers))
        except ResponseError:  # a key of another type: any client may write under the prefix
            return {}
        return {identity.decode(errors="replace"): _read(about) for identity, about in registered.items()}

    def forget_worker(self, identity: str) -> None:
        """Drop the registration of a worker that died without signing off."""
        self._client.hdel(self._keys.workers, identity)


def _read(payload: object) -> dict[str, Any]:
    """Return the JSON object; an empty dict for anything else, since any client may write and publish here."""
    try:
        found = json.loads(payload) if isinstance(payload, bytes) else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
