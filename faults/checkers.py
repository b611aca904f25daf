"""Pure functions over a history: each finds the violations of one promise.

Texts contain their key and version (`c012 v17`), so that every page shows its versions. Versions of a key
only grow, and a service has a version before the invalidation that announces it is sent.
"""

from __future__ import annotations

import heapq
import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from faults.history import INVALIDATE, L2, NO_ANSWER, READS, STATS, Operation

MS = 1_000_000
_TEXT = re.compile(r"\b([cev]\d{3}) v(\d+)$", re.ASCII)
PLACEHOLDERS = frozenset({"Unknown", "Unassigned", ""})


@dataclass(frozen=True, slots=True)
class Stale:
    """A read that showed an older version than an invalidation that was acknowledged before the read began."""

    key: str
    lag_ns: int
    read: Operation
    invalidation: Operation


def version_in(text: str) -> tuple[str, int] | None:
    """Return the key and version in a text that was shown; None for a placeholder or anything else."""
    match = _TEXT.search(text)
    return (match[1], int(match[2])) if match else None


def acknowledged(operations: Iterable[Operation]) -> list[Operation]:
    """Return the invalidations that were answered with success, in the order of their answers."""
    done = (op for op in operations if op.op == INVALIDATE and 200 <= op.status < 300)
    return sorted(done, key=lambda op: op.t_return)


def reads(operations: Iterable[Operation]) -> list[Operation]:
    """Return the pages that were answered."""
    return [op for op in operations if op.op in READS and op.status == 200]


def stale_reads(operations: Sequence[Operation], looked: Iterable[Operation]) -> list[Stale]:
    """K1: find every read that was sent after an acknowledged invalidation and shows an older version.

    One entry for each read, key and invalidation. The lag is from the invalidation's return to the call of
    the read.
    """
    by_key = _by_key(acknowledged(operations))
    found = []
    for look in looked:
        for key, version in _versions(look):
            announced = by_key.get(key)
            if announced is not None:
                newer = announced.newer_than(version, look.t_call)
                found += [Stale(key, look.t_call - one.t_return, look, one) for one in newer]
    return found


def beyond(stale: Iterable[Stale], bound_ms: float) -> list[Stale]:
    """Return the stale reads whose lag exceeds the bound."""
    return [one for one in stale if one.lag_ns > bound_ms * MS]


def last_stale_ms(operations: Sequence[Operation], stale: Iterable[Stale]) -> list[float]:
    """Return for each acknowledged invalidation the lag of the last stale read after it; 0 without one."""
    last: dict[int, int] = {}
    for one in stale:
        which = id(one.invalidation)
        last[which] = max(last.get(which, 0), one.lag_ns)
    return [last.get(id(invalidation), 0) / MS for invalidation in acknowledged(operations)]


def stale_in_own_worker(stale: Iterable[Stale]) -> list[Stale]:
    """K2: find stale reads in the worker that carried out the invalidation; the bound is 0."""
    return [one for one in stale if one.read.worker and one.read.worker == one.invalidation.worker]


def stale_after_resubscribing(operations: Sequence[Operation], stale: Iterable[Stale]) -> list[Stale]:
    """K3: find stale reads of a worker that has subscribed again after the invalidation."""
    confirmed = _confirmations(operations)
    return [
        one
        for one in stale
        if any(
            one.invalidation.t_return < not_before and one.read.t_call > seen_at
            for not_before, seen_at in confirmed.get(one.read.worker, [])
        )
    ]


def _confirmations(operations: Iterable[Operation]) -> dict[int, list[tuple[int, int]]]:
    """Return for each worker the moments around a new subscription: last seen before, first seen after it."""
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    last: dict[int, Operation] = {}
    for look in sorted(operations, key=lambda op: op.t_call):
        if look.op != STATS or look.status != 200:
            continue
        before = last.get(look.worker)
        if before is not None and look.facts["subscriptions"] > before.facts["subscriptions"]:
            found[look.worker].append((before.t_call, look.t_return))
        last[look.worker] = look
    return found


def versions_going_back(operations: Sequence[Operation]) -> list[tuple[Operation, Operation, str]]:
    """K4: find pairs of reads of one worker, the second begun after the first, with an older version of a key.

    While the invalidation of the newer version is refused, L2 may hold the older one.
    """
    settled = _Settled(operations)
    highest: dict[tuple[int, str], tuple[int, Operation]] = {}
    returned: list[tuple[int, int, Operation]] = []
    found = []
    for number, read in enumerate(sorted(reads(operations), key=lambda op: op.t_call)):
        while returned and returned[0][0] < read.t_call:
            _remember(heapq.heappop(returned)[2], highest)
        for key, version in _versions(read):
            known, earlier = highest.get((read.worker, key), (-1, read))
            if read.worker and version < known and settled.by(key, known, read.t_call):
                found.append((earlier, read, key))
        heapq.heappush(returned, (read.t_return, number, read))
    return found


class _Settled:
    """Whether the announcement of a version was refused and not acknowledged since."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._announced: dict[tuple[str, int], list[Operation]] = defaultdict(list)
        for op in operations:
            if op.op == INVALIDATE:
                for key, version in op.live.items():
                    self._announced[key, version].append(op)

    def by(self, key: str, version: int, moment: int) -> bool:
        """Return False if it was tried before that moment and not acknowledged before it."""
        tried = [op for op in self._announced[key, version] if op.t_call < moment]
        return not tried or any(op.t_return < moment and 200 <= op.status < 300 for op in tried)


def _remember(read: Operation, highest: dict[tuple[int, str], tuple[int, Operation]]) -> None:
    for key, version in _versions(read):
        if version > highest.get((read.worker, key), (-1, read))[0]:
            highest[read.worker, key] = (version, read)


def resurrected(operations: Sequence[Operation]) -> list[Stale]:
    """K5: find reads of L2 after an acknowledged invalidation that found an older version."""
    return stale_reads(operations, [op for op in operations if op.op == L2 and op.status == 200])


def placeholders_in_l2(operations: Iterable[Operation]) -> list[tuple[Operation, str]]:
    """K6: find keys under which L2 held a placeholder."""
    return [
        (op, key) for op in operations if op.op == L2 for key, text in op.seen.items() if text in PLACEHOLDERS
    ]


def wrong_identities(operations: Iterable[Operation]) -> list[tuple[Operation, str]]:
    """K7: find keys that were shown with the text of another key."""
    found = []
    for op in operations:
        for key, text in op.seen.items() if op.op in READS else ():
            inside = version_in(text)
            if text not in PLACEHOLDERS and (inside is None or inside[0] != key):
                found.append((op, key))
    return found


def failures(operations: Iterable[Operation], ops: Iterable[str] = READS) -> list[Operation]:
    """Return the requests with a 5xx or no answer."""
    wanted = frozenset(ops)
    return [op for op in operations if op.op in wanted and (op.status >= 500 or op.status == NO_ANSWER)]


def showing_placeholders(operations: Iterable[Operation]) -> list[Operation]:
    """Return the pages with at least one placeholder."""
    return [op for op in reads(operations) if any(text in PLACEHOLDERS for text in op.seen.values())]


def missing_names(operations: Iterable[Operation], entities: frozenset[str]) -> list[tuple[Operation, str]]:
    """Find keys of these entities (`customer`, …) that pages showed as placeholders."""
    initials = {entity[0] for entity in entities}
    return [
        (op, key)
        for op in reads(operations)
        for key, text in op.seen.items()
        if key[0] in initials and text in PLACEHOLDERS
    ]


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the nearest-rank percentile; 0 of no values."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)]


def during(operations: Iterable[Operation], since: int, until: int) -> list[Operation]:
    """Return the operations that were called within a phase."""
    return [op for op in operations if since <= op.t_call < until]


def _versions(look: Operation) -> Iterator[tuple[str, int]]:
    for key, text in look.seen.items():
        inside = version_in(text)
        if inside is not None and inside[0] == key:
            yield key, inside[1]


class _Announced:
    """The acknowledged invalidations of one key, in order of their returns."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._returns: list[int] = []
        self._invalidations: list[Operation] = []
        self._highest: list[int] = []

    def add(self, invalidation: Operation) -> None:
        version = invalidation.live[self._key]
        self._returns.append(invalidation.t_return)
        self._invalidations.append(invalidation)
        self._highest.append(max(version, self._highest[-1] if self._highest else version))

    def newer_than(self, version: int, moment: int) -> Iterator[Operation]:
        """Return the invalidations of newer versions that were acknowledged before a moment."""
        index = bisect_left(self._returns, moment) - 1
        while index >= 0 and self._highest[index] > version:
            if self._invalidations[index].live[self._key] > version:
                yield self._invalidations[index]
            index -= 1


def _by_key(invalidations: Iterable[Operation]) -> dict[str, _Announced]:
    found: dict[str, _Announced] = {}
    for invalidation in invalidations:
        for key in invalidation.live:
            found.setdefault(key, _Announced(key)).add(invalidation)
    return found
