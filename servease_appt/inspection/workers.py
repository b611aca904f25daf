"""Query all workers and read what they answer.

Whatever lies in Redis under our names, and whatever arrives on our channels, may have been written by anyone. So
an answer is checked before it is used: one that is not of the expected form is left out and counted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate

from servease_appt.cache import Mode
from servease_appt.cache.breaker import BreakerState
from servease_appt.cache.worker_queries import WorkerQueries

ANSWER_TIMEOUT_S: Final = 1.0
_IDENTITY: Final = re.compile(r"[\w.-]{1,255}:\d{1,10}(:\w{1,64})?\Z", re.ASCII)

T = TypeVar("T")
Tiers = dict[str, dict[str, dict[str, int]]]
"""Events as `{tier: {entity: {event: n}}}`."""


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """What workers answered to one query, in the order of their identities.

    Attributes:
        readable: The answers of the expected form.
        unreadable: How many were not, and were left out.
    """

    readable: list[T]
    unreadable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """A worker has handled every invalidation that was published before the query."""

    worker: str
    pid: int
    after_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """The state of one worker, as it describes itself.

    Attributes:
        worker: Its identity, `host:pid:random`.
        mode: A `Mode` by its value.
        heard_s_ago: Seconds since Redis last answered on its channel; None before it listens.
        sequence: The last invalidation that it handled; None for none.
        redis_refuses: Why Redis refuses a command of it at present; None if it refuses none.
        l1_switched_off: Whether `cache l1 off` is in force in it.
        breakers: The state of each entity's breaker.
        tiers: Events since the worker started.
        endpoints: References shown by endpoint and source since the worker started.
        secret_key_id: A short hash that tells two values of SECRET_KEY apart; None from an older version.
        resident_bytes: The memory of the process that is in RAM; None from an older version or without `/proc`.
        after_ms: Milliseconds from the query to its answer.
    """

    worker: str
    pid: int
    mode: str
    l1_entries: int
    l1_evictions: int
    l1_entries_by_entity: dict[str, int] = field(default_factory=dict)
    heard_s_ago: float | None = None
    channel_confirmed: bool = False
    tracking: bool = False
    sequence: int | None = None
    redis_breaker: str = BreakerState.CLOSED.value
    redis_refuses: str | None = None
    l1_switched_off: bool = False
    breakers: dict[str, str] = field(default_factory=dict)
    tiers: Tiers = field(default_factory=dict)
    endpoints: dict[str, dict[str, int]] = field(default_factory=dict)
    version: str | None = None
    secret_key_id: str | None = None
    resident_bytes: int | None = None
    after_ms: float = 0.0

    @property
    def all_breakers(self) -> dict[str, str]:
        """Return the state of every breaker by name, that of Redis first."""
        return {"redis": self.redis_breaker, **self.breakers}

    def behind(self, sequence: int | None) -> int:
        """Return how many of the invalidations that Redis had counted the worker had not handled."""
        if sequence is None or self.sequence == sequence:
            return 0
        return 1 if self.sequence is None else max(0, sequence - self.sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class L1Entry:
    """What one worker's L1 holds of a key.

    Attributes:
        age_s: Seconds since it was loaded.
        left_s: Seconds until it expires.
        absent: Whether it remembers that the service has no such entity.
        trusted: Whether the worker's channel is confirmed, so that the entry may be older than a second.
        digest: Of the value; empty where there is none.
    """

    age_s: float
    left_s: float
    absent: bool
    trusted: bool
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvent:
    """An event that a worker remembers or publishes; `key` is `*` where it concerns the whole cache."""

    at_s: float
    tier: str
    event: str
    key: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEntry:
    """What one worker knows of a key: its L1's entry and the last events, newest first."""

    worker: str
    pid: int
    l1: L1Entry | None = None
    events: list[WorkerEvent] = field(default_factory=list)
    after_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvents:
    """The last events of one worker, newest first."""

    worker: str
    events: list[WorkerEvent] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a worker has written into the register of workers; None for what can't be read."""

    pid: int | None = None
    host: str | None = None


class _Checked(Schema):
    """A form that an answer must have; what is more than that is left out."""

    made: type[Any]

    class Meta:
        unknown = EXCLUDE

    @post_load
    def make(self, loaded: dict[str, Any], **_: object) -> Any:
        return self.made(**loaded)


def _whole(**options: Any) -> fields.Integer:
    return fields.Integer(strict=True, **options)


def _identity() -> fields.String:
    return fields.String(required=True, validate=validate.Regexp(_IDENTITY))


class _Acknowledgement(_Checked):
    made = Acknowledgement
    worker = _identity()
    pid = _whole(required=True)
    after_ms = fields.Float(required=True)


class _WorkerStatus(_Checked):
    made = WorkerStatus
    worker = _identity()
    pid = _whole(required=True)
    mode = fields.String(required=True, validate=validate.OneOf([mode.value for mode in Mode]))
    l1_entries = _whole(required=True)
    l1_evictions = _whole(required=True)
    l1_entries_by_entity = fields.Dict(fields.String(), _whole())
    heard_s_ago = fields.Float(allow_none=True)
    channel_confirmed = fields.Boolean()
    tracking = fields.Boolean()
    sequence = _whole(allow_none=True)
    redis_breaker = fields.String()
    redis_refuses = fields.String(allow_none=True)
    l1_switched_off = fields.Boolean()
    breakers = fields.Dict(fields.String(), fields.String())
    tiers = fields.Dict(fields.String(), fields.Dict(fields.String(), fields.Dict(fields.String(), _whole())))
    endpoints = fields.Dict(fields.String(), fields.Dict(fields.String(), _whole()))
    version = fields.String(allow_none=True)
    secret_key_id = fields.String(allow_none=True)
    resident_bytes = _whole(allow_none=True)
    after_ms = fields.Float()


class _L1Entry(_Checked):
    made = L1Entry
    age_s = fields.Float(required=True)
    left_s = fields.Float(required=True)
    absent = fields.Boolean(required=True)
    trusted = fields.Boolean(required=True)
    digest = fields.String(required=True)


class _WorkerEvent(_Checked):
    made = WorkerEvent
    at_s = fields.Float(required=True, validate=validate.Range(min=0, max=1e11))
    tier = fields.String(required=True)
    event = fields.String(required=True)
    key = fields.String(required=True)
    why = fields.String()


class _WorkerEntry(_Checked):
    made = WorkerEntry
    worker = _identity()
    pid = _whole(required=True)
    l1 = fields.Nested(_L1Entry, allow_none=True)
    events = fields.List(fields.Nested(_WorkerEvent))
    after_ms = fields.Float()


class _WorkerEvents(_Checked):
    made = WorkerEvents
    worker = _identity()
    events = fields.List(fields.Nested(_WorkerEvent), required=True)


class _Registration(_Checked):
    made = Registration
    pid = _whole()
    host = fields.String()


def query_statuses(queries: WorkerQueries, timeout_s: float = ANSWER_TIMEOUT_S) -> Answers[WorkerStatus]:
    """Ask every worker for its state. Raises redis-py's errors."""
    return _checked(_WorkerStatus(), queries.query("status", timeout_s=timeout_s))


def self_status(identity: str, described: Mapping[str, Any]) -> WorkerStatus:
    """Return the state of this process, which can't be queried while Redis is down."""
    status: WorkerStatus = _WorkerStatus().load({"worker": identity, "pid": os.getpid(), **described})
    return status


def query_entry(
    queries: WorkerQueries, key: str, timeout_s: float = ANSWER_TIMEOUT_S
) -> Answers[WorkerEntry]:
    """Ask every worker what it holds of one key. Raises redis-py's errors."""
    return _checked(_WorkerEntry(), queries.query("explain", timeout_s=timeout_s, key=key))


def query_events(
    queries: WorkerQueries, since_s: float, timeout_s: float = ANSWER_TIMEOUT_S
) -> Answers[WorkerEvents]:
    """Ask every worker for its last events after a time (wall clock, in seconds). Raises redis-py's errors."""
    return _checked(_WorkerEvents(), queries.query("events", timeout_s=timeout_s, since_s=repr(since_s)))


def query_acknowledgements(
    queries: WorkerQueries, timeout_s: float = ANSWER_TIMEOUT_S
) -> Answers[Acknowledgement]:
    """Ask every worker for a sign that it has handled all that was published before. Raises redis-py's errors."""
    return _checked(_Acknowledgement(), queries.query("heard", timeout_s=timeout_s))


def registered_workers(queries: WorkerQueries) -> dict[str, Registration]:
    """Return the register of workers by identity; names that are not of our form are left out.

    Raises redis-py's errors.
    """
    schema = _Registration()
    known: dict[str, Registration] = {}
    for identity, about in queries.workers().items():
        if _IDENTITY.match(identity):
            try:
                known[identity] = schema.load(about)
            except ValidationError:
                known[identity] = Registration()
    return known


def read_events(message: object) -> tuple[str, list[WorkerEvent]] | None:
    """Read what a worker publishes while somebody watches: its identity and events; None for anything else."""
    if not isinstance(message, dict) or not isinstance(message.get("events"), list):
        return None
    worker = message.get("worker")
    if not isinstance(worker, str) or not _IDENTITY.match(worker):
        return None
    return worker, _checked(_WorkerEvent(), message["events"]).readable


def short_name(identity: str) -> str:
    """Return a worker's `host:pid` out of its identity, for people."""
    return identity.rpartition(":")[0] or identity


def open_breakers(breakers: Mapping[str, str]) -> str:
    """Name the breakers that are not closed, with their states; empty where all are closed."""
    return ", ".join(
        f"{name} {state.replace('_', ' ')}"
        for name, state in breakers.items()
        if state != BreakerState.CLOSED.value
    )


def _checked(schema: Schema, answers: Iterable[Any]) -> Answers[Any]:
    readable, unreadable = [], 0
    for answer in answers:
        try:
            readable.append(schema.load(answer))
        except ValidationError:
            unreadable += 1
    readable.sort(key=lambda answer: str(getattr(answer, "worker", "")))
    return Answers(readable, unreadable)
