"""What the cache's tests are made of: a source of versions, gates, and values that know their id."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from servease_appt.cache import CachePolicy, Codec, LoadDenied, TwoTierCache, ValueNotFound
from servease_appt.cache.breaker import Breaker
from servease_appt.cache.heartbeat import TRUST_S
from servease_appt.cache.l1 import NOT_FOUND
from servease_appt.testing.processes import wait_until

LIMIT_S = 30.0
"""How long a test waits for what must happen; reached only when it doesn't."""
PREFIX = "test"
POLICY = CachePolicy(
    ttl_s=60, l1_ttl_s=30, negative_ttl_s=20, stale_ttl_s=600, load_timeout_s=2.0, soft_timeout_s=0.3
)


@dataclass(frozen=True, slots=True)
class Versioned:
    """A value whose version only grows, so that an older one is seen to be older."""

    id: str
    version: int


def _encode(value: Versioned) -> bytes:
    return json.dumps({"id": value.id, "version": value.version}).encode()


def _decode(payload: bytes, id_: str) -> Versioned:
    fields = json.loads(payload)
    if fields.keys() != {"id", "version"} or fields["id"] != id_ or type(fields["version"]) is not int:
        raise ValueError("not such an object of this id")
    return Versioned(**fields)


CODECS = tuple(Codec(name, _encode, _decode) for name in ("customer", "vehicle", "employee"))
Cache = TwoTierCache[Versioned]


class Gate:
    """A place where a thread is stopped until the test lets it go on."""

    def __init__(self) -> None:
        self._arrived = threading.Semaphore(0)
        self._open = threading.Event()

    def pass_through(self) -> None:
        """Stop here until the gate is open. Called by the thread under test."""
        self._arrived.release()
        assert self._open.wait(LIMIT_S), "nobody opened the gate"

    def wait_for_arrival(self) -> None:
        """Wait until one more thread has come to the gate."""
        assert self._arrived.acquire(timeout=LIMIT_S), "nobody came to the gate"

    def open(self) -> None:
        """Let everybody through, from now on."""
        self._open.set()


def monkeypatch(owner: object, name: str, replacement: Callable[..., Any]) -> None:
    """Replace a method of one object, for the object's life."""
    assert callable(getattr(owner, name)), f"there is no {name} any more"
    setattr(owner, name, replacement)


def stop_before(owner: object, name: str, gate: Gate) -> None:
    """Stop whoever calls a method of one object at the gate, before the method begins."""
    call = getattr(owner, name)

    def stopped(*args: Any, **kwargs: Any) -> Any:
        gate.pass_through()
        return call(*args, **kwargs)

    setattr(owner, name, stopped)


def stop_after(owner: object, name: str, gate: Gate) -> None:
    """Stop whoever calls a method of one object at the gate, before the method's result is handed on."""
    call = getattr(owner, name)

    def stopped(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        gate.pass_through()
        return result

    setattr(owner, name, stopped)


class Source:
    """Where values come from: each key has a version that only grows. Thread-safe.

    A load reads the version first and is held afterwards, as an answer that is on its way while the truth
    changes behind it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[str, int] = {}
        self._gates: dict[str, Gate] = {}
        self._fail: dict[str, Exception] = {}
        self.loads: Counter[str] = Counter()

    def put(self, key: str, version: int | None = None) -> Versioned:
        """Set a key to `version`, or to one more than it had; the new value."""
        with self._lock:
            self._versions[key] = version if version is not None else self._versions.get(key, 0) + 1
            return Versioned(key.partition("_")[2], self._versions[key])

    def remove(self, key: str) -> None:
        """Have no such key any more."""
        with self._lock:
            self._versions.pop(key, None)

    def fail(self, key: str, error: Exception | None) -> None:
        """Have loads of `key` raise `error`; None: answer again."""
        with self._lock:
            if error is None:
                self._fail.pop(key, None)
            else:
                self._fail[key] = error

    def deny(self, key: str) -> None:
        """Refuse everybody this key."""
        self.fail(key, LoadDenied(key))

    def hold(self, key: str) -> Gate:
        """Keep the answers of loads that begin from now on until the gate is opened."""
        with self._lock:
            gate = self._gates[key] = Gate()
        return gate

    def release(self, key: str) -> None:
        """Answer at once again; those held already stay held until their gate is opened."""
        with self._lock:
            self._gates.pop(key, None)

    def load(self, key: str, _timeout_s: float) -> Versioned:
        """What the cache is given as its loader."""
        with self._lock:
            self.loads[key] += 1
            version, gate, error = self._versions.get(key), self._gates.get(key), self._fail.get(key)
        if gate is not None:
            gate.pass_through()
        if error is not None:
            raise error
        if version is None:
            raise ValueNotFound(key)
        return Versioned(key.partition("_")[2], version)


def eventually(done: Callable[[], Any], what: str = "it", *, timeout_s: float = LIMIT_S) -> None:
    """Wait until `done()` is true. Raises AssertionError when it doesn't become so."""
    assert wait_until(lambda: bool(done()), timeout_s=timeout_s, interval_s=0.002), f"{what} did not happen"


def listening(cache: Cache) -> Cache:
    """The cache, once its channel is confirmed and L1 is trusted."""
    cache.start()
    eventually(lambda: cache.l1.trusted_until_s > float("-inf"), "the confirmation of the channel")
    return cache


def held_in_l1(cache: Cache, key: str) -> Versioned | None:
    """What L1 holds right now, whether it would serve it or not."""
    entry = cache.l1.held([key]).get(key)
    return None if entry is None or entry.value is NOT_FOUND else entry.value


def settle(*caches: Cache) -> None:
    """Wait until each listener has an answer to a question that it sent after this was called.

    The connection keeps its order: all that was published or changed before has then been handled.
    """
    for cache in caches:
        listener, asked_at_s = cache._process.listener, cache._clock()
        listener._queue.beat_now()
        listener._wake()
        eventually(partial(_answered_since, cache, asked_at_s), "the answer to a heartbeat")


def _answered_since(cache: Cache, asked_at_s: float) -> bool:
    return cache.l1.trusted_until_s - TRUST_S >= asked_at_s


def policy(**changes: Any) -> CachePolicy:
    """The tests' policy with some fields changed."""
    return replace(POLICY, **changes)


def patient_breaker() -> Breaker:
    """A breaker that stays closed: a slow answer on a busy machine must not hide the next ones."""
    return Breaker(threshold=1000, cool_down_s=1.0)
