"""One thread of the load: announces newer versions, and reads from every worker directly afterwards."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Callable

import redis

from faults.checkers import version_in
from faults.history import INVALIDATE, PROBE, Operation
from faults.http_client import TIMEOUT_S, Slot
from faults.load import RETRY_LIMIT_S, WRITERS, Load

PROBE_LIMIT_S = 3.0
RUSH_EVERY = 3
"""Each so many turns the next version is announced while loads of the one before are under way."""


def run_writer(load: Load, number: int) -> None:
    """Announce newer versions until the load stops; `number` is below `WRITERS`."""
    Writer(load, number).run()


class Writer:
    """Announces newer versions of its own keys in sequence, and reads from every worker directly afterwards."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._number = number
        self._testbed = load.testbed
        self._dataset = load.testbed.dataset
        self._keys = [key for key in self._dataset.versions if int(key[1:]) % WRITERS == number]
        self._slots: dict[int, Slot] = {}
        self._spare = self._testbed.slot()
        self._asked: set[int] = set()
        self._turn = number * 7

    def run(self) -> None:
        """Announce until the load stops."""
        while True:
            key = self._next_key()
            self._slots = self._load.repin(self._slots)
            self._load.tell_pinned(self._number, len(self._slots))
            # Once a turn, and in this order: a rush begun by HTTP must not end with a `DEL`, which stops no load.
            by_hand = self._load.announce
            rushing = self._load.rushing
            version = self._announce(key, by_hand)
            if version is not None and rushing and self._turn % RUSH_EVERY == 0:
                self._ask_free_workers(key)
                version = self._announce(key, by_hand)
            if version is not None:
                self._ask_until_new(key, version)
            if self._load.stopping.wait(self._load.writer_pause_s):
                break
        for slot in (*self._slots.values(), self._spare):
            self._load.resent += slot.resent
            slot.close()

    def _next_key(self) -> str:
        self._turn += 1
        return self._keys[self._turn * 13 % len(self._keys)]

    def _announce(self, key: str, by_hand: Callable[[str], object] | None) -> int | None:
        """Store a newer version and repeat the invalidation until it is acknowledged; None if it never is."""
        dataset = self._dataset
        kind = dataset.kind_of(key)
        if kind in self._load.frozen:
            version = dataset.versions[key]
        else:
            try:
                version = dataset.bump(key)
            except OSError:
                return None
        limit_s = time.monotonic() + RETRY_LIMIT_S
        while time.monotonic() < limit_s:
            operation = _by_hand(key, by_hand) if by_hand is not None else self._by_http(key, kind)
            operation.live = {key: version}
            self._load.history.add(operation)
            if operation.status == 200:
                return version
            self._answers(0.0)  # of a rush, or they would look late
            if self._load.stopping.wait(0.1):
                return None
            self._slots = self._load.repin(self._slots)
        return None

    def _by_http(self, key: str, kind: str) -> Operation:
        body = json.dumps({"entity": kind, "ids": [self._dataset.ids[key]]}).encode()
        free = [slot for slot in self._slots.values() if not slot.busy]
        slot = free[self._turn % len(free)] if free else self._spare
        answer = slot.ask("POST", "/cache/invalidate/", body)
        facts = {"error": answer.error} if answer.error else {}
        return Operation(
            INVALIDATE, answer.t_call, answer.t_return, answer.status, answer.request, facts=facts
        )

    def _ask_until_new(self, key: str, version: int) -> None:
        """Read from each worker until it shows the new version (or a placeholder), or until the time limit."""
        self._ask_free_workers(key)
        waiting = self._asked & self._slots.keys()
        limit_s = time.monotonic() + PROBE_LIMIT_S
        while waiting and time.monotonic() < limit_s and not self._load.stopping.is_set():
            for worker, operation in self._answers(limit_s - time.monotonic()):
                shown = version_in(operation.seen.get(key, ""))
                if worker in waiting and shown is not None and shown[1] < version:
                    self._ask(key, {worker})
                if worker not in self._asked:
                    waiting.discard(worker)

    def _ask_free_workers(self, key: str) -> None:
        self._ask(key, {worker for worker, slot in self._slots.items() if not slot.busy})

    def _ask(self, key: str, workers: set[int]) -> None:
        for worker in sorted(workers):
            failed = self._slots[worker].start("GET", f"/appointments/{self._dataset.appointment_of(key)}/")
            if failed is None:
                self._asked.add(worker)
            else:
                self._load.record_page(PROBE, failed)

    def _answers(self, timeout_s: float) -> list[tuple[int, Operation]]:
        busy = {slot: worker for worker, slot in self._slots.items() if slot.busy}
        if not busy:
            return []
        found = []
        ready, _, _ = select.select(list(busy), [], [], max(0.0, min(timeout_s, 0.2)))
        for slot in ready:
            answer = slot.receive()
            if answer is not None:
                self._asked.discard(busy[slot])
                found.append((busy[slot], self._load.record_page(PROBE, answer)))
        for slot, worker in busy.items():
            if slot not in ready and slot.waited_s > TIMEOUT_S:
                self._asked.discard(worker)
                found.append((worker, self._load.record_page(PROBE, slot.give_up())))
        return found


def _by_hand(key: str, announce: Callable[[str], object]) -> Operation:
    t_call, status = time.monotonic_ns(), 200
    try:
        announce(key)
    except redis.RedisError:
        status = 503
    return Operation(INVALIDATE, t_call, time.monotonic_ns(), status)
