"""Single-flight: one load for each key and process; later callers wait for the first one's result."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Generic, TypeVar

from servease_appt.cache.clocks import elapsed_s

V = TypeVar("V")


class Outcome(Enum):
    """The result of a flight."""

    LOADED = auto()
    FROM_L2 = auto()
    NOT_FOUND = auto()
    REMEMBERED_NOT_FOUND = auto()
    DENIED = auto()
    FAILED = auto()


class Completion:
    """A countdown of the flights that one caller waits for; `wake` interrupts `wait`.

    One thread waits; any thread may call the other methods. Lighter than a `threading.Condition`, since each
    reader of a missing key makes one.
    """

    __slots__ = ("_bell", "_left", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Locked until there is something to look at.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._left = 0

    def expect(self, more: int) -> None:
        """Add flights to wait for. Call it before they can complete."""
        with self._lock:
            self._left += more

    def count_down(self, completed: int = 1) -> None:
        """Note that flights have completed."""
        with self._lock:
            self._left -= completed
            if self._left == 0:
                self._ring()

    def wake(self) -> None:
        """Wake the waiter, so that it checks again."""
        with self._lock:
            self._ring()

    def _ring(self) -> None:
        if self._bell.locked():
            self._bell.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait for all flights, `wake` or the timeout. Returns True if all flights have completed."""
        if self._left > 0:
            self._bell.acquire(timeout=max(0.0, timeout_s))
        return self._left <= 0


class Flight(Generic[V]):
    """One running load. Only the first call of `complete` has an effect.

    `loads`: True once its leader loads the value. Until then the leader may wait for another worker.
    """

    __slots__ = (
        "_completions", "_lock", "began_at_s", "deadline_s", "key", "loads", "outcome", "stale_value", "value"
    )  # fmt: skip

    def __init__(self, key: str, completion: Completion, deadline_s: float = math.inf) -> None:
        self.key = key
        self.began_at_s = elapsed_s()
        self.deadline_s = deadline_s
        self.loads = False
        self.stale_value: V | None = None
        self.outcome: Outcome | None = None
        self.value: V | None = None
        self._lock = threading.Lock()
        self._completions = [completion]

    def join(self, completion: Completion) -> None:
        """Count `completion` down when this flight completes, or at once if it has completed."""
        with self._lock:
            if self.outcome is None:
                self._completions.append(completion)
                return
        completion.count_down()

    def complete(self, outcome: Outcome, value: V | None = None) -> None:
        """Set the outcome and wake every caller that waits."""
        for completion in self.set_outcome(outcome, value):
            completion.count_down()

    def set_outcome(self, outcome: Outcome, value: V | None = None) -> list[Completion]:
        """Set the outcome. Returns the completions to count down."""
        with self._lock:
            if self.outcome is not None:
                return []
            self.value = value
            self.outcome = outcome
            return self._completions

    @property
    def leader(self) -> Completion:
        """The completion of the caller that leads."""
        return self._completions[0]


class Flights(Generic[V]):
    """The flights of one process, at most one for each key. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[str, Flight[V]] = {}

    def join(
        self, keys: Sequence[str], completion: Completion, *, began_after_s: float = -math.inf
    ) -> dict[str, Flight[V]]:
        """Join the running flights of these keys, and add them to `completion`. Returns them by key.

        A flight is not joined after its deadline, or if it began before `began_after_s`.
        """
        with self._lock:
            joined = {
                key: flight for key in keys if (flight := self._joinable(key, began_after_s)) is not None
            }
        completion.expect(len(joined))
        for flight in joined.values():
            flight.join(completion)
        return joined

    def join_or_lead(
        self,
        keys: Iterable[str],
        completion: Completion,
        *,
        deadline_s: float = math.inf,
        began_after_s: float = -math.inf,
        alone: bool = False,
    ) -> tuple[dict[str, Flight[V]], dict[str, Flight[V]]]:
        """Return (led, joined): the flights this caller must complete, and those it only waits for.

        All of them are added to `completion`. Led flights end at `deadline_s` and are not joined after it. See
        `join` for `began_after_s`. With `alone`, no flight is joined, and no other caller can join those led.
        """
        led: dict[str, Flight[V]] = {}
        joined: dict[str, Flight[V]] = {}
        with self._lock:
            for key in keys:
                flight = None if alone else self._joinable(key, began_after_s)
                if flight is not None:
                    joined[key] = flight
                    continue
                led[key] = flight = Flight(key, completion, deadline_s)
                if not alone:
                    self._by_key[key] = flight
        completion.expect(len(led) + len(joined))
        for flight in joined.values():
            flight.join(completion)
        return led, joined

    def _joinable(self, key: str, began_after_s: float) -> Flight[V] | None:
        flight = self._by_key.get(key)
        if flight is None or flight.began_at_s < began_after_s or time.monotonic() >= flight.deadline_s:
            return None
        return flight

    @property
    def are_running(self) -> bool:
        """True if there may be a flight to join."""
        return bool(self._by_key)

    def finish(self, flights: Iterable[Flight[V]]) -> None:
        """Remove flights, so that the next reader of each key starts a new one."""
        with self._lock:
            for flight in flights:
                if self._by_key.get(flight.key) is flight:
                    del self._by_key[flight.key]

    def detach(self, keys: Iterable[str] | None = None) -> None:
        """Make flights unjoinable: no call may join a load that began before an invalidation. None: all."""
        with self._lock:
            if keys is None:
                self._by_key.clear()
                return
            for key in keys:
                self._by_key.pop(key, None)

    def wake(self, keys: Iterable[str]) -> None:
        """Wake the leaders that wait for other workers' loads of these keys, because L2 has changed there.

        Callers that joined wait for completion.
        """
        if not self._by_key:
            return
        with self._lock:
            leaders = {
                flight.leader
                for key in keys
                if (flight := self._by_key.get(key)) is not None and not flight.loads
            }
        for leader in leaders:
            leader.wake()


def complete_all(outcomes: Iterable[tuple[Flight[V], Outcome, V | None]]) -> None:
    """Complete flights as `Flight.complete` does. Each caller that waits is woken once."""
    counts: dict[Completion, int] = {}
    for flight, outcome, value in outcomes:
        for completion in flight.set_outcome(outcome, value):
            counts[completion] = counts.get(completion, 0) + 1
    for completion, completed in counts.items():
        completion.count_down(completed)
