"""Invalidation requests that any Redis client makes by a plain PUBLISH; one worker carries out each in L2.

Every worker receives a request, and has dropped the keys from its L1 by then. It waits a few random milliseconds.
It drops the request if a numbered message that covers it has followed on the ordered channel, because that
deletion happened after the request was published. So there is no lock that could hide a later request. A request
that fails is retried at each heartbeat.

The messages that a thousand workers receive take Redis longer than the shortest delays differ. So the script does
nothing if the sequence is ahead of what the worker has received: it waits again, and the message that is under way
may cover the request. After `MAX_REFUSALS` the request is carried out in any case.

Keys are deleted and announced in one step. A pattern is not: its scans must begin after the request. So the
worker that carries it out also announces the start, and its last message has the sequence number of the start. It
announces the start again at each heartbeat while it scans, since the others wait for `CLAIM_S` only.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from servease_appt.cache.election import draw_claim_s, draw_delay_s
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.messages import STARTS, Invalidation
from servease_appt.cache.stats import Event, Tier

log = logging.getLogger(__name__)

MAX_PENDING: Final = 10_000
BATCH: Final = 500
"""Keys for one script call: a call with 10,000 keys would block Redis for a tenth of a second."""
MAX_REFUSALS: Final = 4
"""After these, at most half a second has passed."""


@dataclass(slots=True)
class _Pattern:
    number: int
    sequence: float
    claimed_until_s: float = 0.0


class PlainRequests:
    """The pending requests of one worker, bounded. Thread-safe.

    `add` and `covered` are called on the listener's thread, in the channel's order.
    """

    def __init__(
        self,
        carry_out: Callable[[Invalidation, int | None], int | None],
        *,
        announce_start: Callable[[str], object],
        elected: bool,
        sequence: Callable[[], int | None],
        event_log: EventLog,
        submit: Callable[[Callable[[], None]], object],
    ) -> None:
        self._carry_out = carry_out
        self._announce_start = announce_start
        self._elected = elected
        self._sequence = sequence
        self._own_sequence = 0
        self._refusals = 0
        self._scanning_for: str | None = None
        self._event_log = event_log
        self._submit = submit
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._keys: dict[str, int] = {}
        self._patterns: dict[str, _Pattern] = {}
        self._running = False
        self._failing = False
        self._closing = threading.Event()
        self.delay_s: Callable[[], float] = draw_delay_s if elected else lambda: 0.0

    def add(self, request: Invalidation, sequence: int | None) -> None:
        """Add a request that followed the message with number `sequence` (None: unknown), and begin."""
        number = next(self._numbers)
        behind = math.inf if sequence is None else sequence
        with self._lock:
            self._keys.update(dict.fromkeys(request.keys, number))
            if request.pattern is not None:
                self._patterns[request.pattern] = _Pattern(number, behind)
            if len(self._keys) + len(self._patterns) > MAX_PENDING:
                self._keys.clear()
                self._patterns = {"*": _Pattern(number, behind)}
        self.begin()

    def covered(self, message: Invalidation) -> None:
        """Drop requests that a later numbered message has already carried out."""
        if not self._elected or not (self._keys or self._patterns):
            return
        with self._lock:
            for key in message.keys:
                self._keys.pop(key, None)
            for pattern in [p for p in self._patterns if message.pattern in (p, "*")]:
                pending = self._patterns[pattern]
                if message.began == STARTS:
                    pending.claimed_until_s = time.monotonic() + draw_claim_s()
                elif message.began is not None and message.began > pending.sequence:
                    del self._patterns[pattern]

    def on_beat(self) -> None:
        """Start carrying out what is pending; while this worker scans, tell the others that it still does."""
        if self._scanning_for is not None:
            self._in_background(self._announce_again)
        self.begin()

    def begin(self) -> None:
        """Start carrying out pending requests on a thread of the cache."""
        with self._lock:
            if self._running or not (self._keys or self._patterns):
                return
            self._running = True
        self._in_background(self._run)

    def _in_background(self, work: Callable[[], None]) -> None:
        try:
            self._submit(work)
        except RuntimeError:
            log.debug("The cache is closed, or the interpreter ends: no new work is started")

    def _announce_again(self) -> None:
        pattern = self._scanning_for
        if pattern is None:
            return  # the scans have ended meanwhile
        try:
            self._announce_start(pattern)
        except L2Unavailable as error:
            log.debug("The start of scans could not be announced again: %s", error)

    def close(self) -> None:
        """End the random delay, so that closing the cache does not wait for it."""
        self._closing.set()

    def pending(self) -> int:
        """Return the number of pending keys and patterns."""
        return len(self._keys) + len(self._patterns)

    def _run(self) -> None:
        # Longer after each refusal: the messages may be late because Redis or the network is busy.
        self._closing.wait(self.delay_s() * 2**self._refusals)
        # Before what is pending is looked at: a message that is handled meanwhile must not count as received.
        received = self._sequence() if self._elected and self._refusals < MAX_REFUSALS else None
        with self._lock:
            last = next(self._numbers)
            keys = dict(self._keys)
            now_s = time.monotonic()
            patterns = {
                p: asked.number for p, asked in self._patterns.items() if asked.claimed_until_s < now_s
            }
        refused = False
        try:
            refused = not self._carry_out_all(keys, patterns, received)
            self._failing = False
        except L2Unavailable as error:
            self._event_log.note(Tier.L2, Event.FAILED_INVALIDATION, [*keys, *patterns], str(error))
            if not self._failing:
                log.warning("A request to invalidate failed and will be retried: %s", error)
            self._failing = True
        self._refusals = self._refusals + 1 if refused else 0
        with self._lock:
            self._running = False
            came = [*self._keys.values(), *(asked.number for asked in self._patterns.values())]
            newer = any(number > last for number in came)
        if (newer or refused) and not self._failing:
            self.begin()

    def _carry_out_all(self, keys: dict[str, int], patterns: dict[str, int], received: int | None) -> bool:
        """Carry out requests, by their numbers. Returns False if one was refused: see the module's docstring."""
        for batch in _batches(keys):
            received = self._try(Invalidation(keys=tuple(batch)), received)
            if received is None:
                return False
            self._done(batch, self._keys)
        for pattern, number in patterns.items():
            received = self._try(Invalidation(pattern=pattern), received)
            if received is None:
                return False
            with self._lock:
                asked = self._patterns.get(pattern)
                if asked is not None and asked.number == number:
                    del self._patterns[pattern]
        return True

    def _try(self, request: Invalidation, received: int | None) -> int | None:
        """Return the sequence after carrying out a request; None if it was refused."""
        if_at = None if received is None else max(received, self._own_sequence)
        self._scanning_for = request.pattern
        try:
            sequence = self._carry_out(request, if_at)
        finally:
            self._scanning_for = None
        if sequence is not None:
            self._own_sequence = sequence
        return sequence

    def _done(self, batch: dict[str, int], pending: dict[str, int]) -> None:
        with self._lock:
            for key, number in batch.items():
                if pending.get(key) == number:  # else it was requested again
                    del pending[key]


def _batches(keys: dict[str, int]) -> Iterator[dict[str, int]]:
    rest = iter(keys.items())
    while batch := dict(itertools.islice(rest, BATCH)):
        yield batch
