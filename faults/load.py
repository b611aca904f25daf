"""The steady load of an experiment: what each of its threads does, until it is told to stop."""

from __future__ import annotations

import itertools
import json
import select
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import redis

from faults.checkers import version_in
from faults.history import BOOK, INVALIDATE, L2, PAGE, PROBE, STATS, History, Operation
from faults.http_client import TIMEOUT_S, Answer, Slot
from faults.rig import PREFIX, Rig

LANES = 2
BROWSERS = 3
LANE_PAUSE_S = 0.04
PAGE_PAUSE_S = 0.08
BOOK_PAUSE_S = 0.5
LOOK_PAUSE_S = 0.02
STATS_PAUSE_S = 0.1
PROBE_LIMIT_S = 3.0
RETRY_LIMIT_S = 15.0
LOST_WORKER_PAUSE_S = 1.0


class Load:
    """Threads that ask the service for as long as the context lasts; everything goes into `history`.

    Attributes:
        pinned: set once every lane has a connection to each worker.
        frozen: kinds (`customer`, …) whose versions stay as they are, since their service is being broken.
        lane_pause_s: how long a lane rests between two invalidations.
        announce: how a key's new version is made known, instead of by HTTP; raises redis-py's errors.
        booked: description to id, of the bookings that were answered with 201.
        resent: requests sent again because the server had closed a kept connection.
    """

    def __init__(self, rig: Rig, history: History) -> None:
        self.rig = rig
        self.history = history
        self.frozen: set[str] = set()
        self.announce: Callable[[str], object] | None = None
        self.lane_pause_s = LANE_PAUSE_S
        self.stopping = threading.Event()
        self.booked: dict[str, str] = {}
        self.errors: list[BaseException] = []
        self.resent = 0
        self._log_lock = threading.Lock()
        self.pinned = threading.Event()
        self._lanes_pinned: set[int] = set()
        self._threads: list[threading.Thread] = []
        self._not_before_s: dict[int, float] = {}

    def __enter__(self) -> Self:
        jobs: list[Callable[[], None]] = [Lane(self, number).run for number in range(LANES)]
        jobs += [partial(self._browse, number) for number in range(BROWSERS)]
        jobs += [self._book, self._look_into_l2, self._watch_workers]
        for job in jobs:
            thread = threading.Thread(target=self._guarded, args=(job,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(30)
        if self.errors:
            raise self.errors[0]

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self.errors.append(error)
            self.stopping.set()

    # Pages

    def record_page(self, op: str, answer: Answer) -> Operation:
        """Write a page down."""
        seen: dict[str, str] = {}
        facts: dict[str, Any] = {}
        if answer.status == 200:
            seen = self.rig.world.seen_in(json.loads(answer.body))
            facts = {"cache_ms": _timing(answer.headers.get("server-timing", ""), "cache")}
        elif answer.error:
            facts = {"error": answer.error}
        operation = Operation(
            op, answer.t_call, answer.t_return, answer.status, answer.request, seen=seen, facts=facts
        )
        self.history.add(operation)
        return operation

    def _browse(self, number: int) -> None:
        slot = self.rig.slot()
        for turn in itertools.count(number):
            path = f"/appointments/?page={1 + turn % 2}&page_size=20"
            self.record_page(PAGE, slot.ask("GET", path))
            if turn % 20 == 19:
                slot.close()  # so that it comes to another worker now and then
            if self.stopping.wait(PAGE_PAUSE_S):
                break
        self.resent += slot.resent
        slot.close()

    # Bookings

    def _book(self) -> None:
        slot = self.rig.slot()
        for number in self.rig.booking_numbers:
            self._book_until_sure(slot, number)
            if self.stopping.wait(BOOK_PAUSE_S):
                break
        slot.close()

    def _book_until_sure(self, slot: Slot, number: int) -> None:
        """As a careful client: the same key again until the answer is sure."""
        body = self.rig.world.booking(number)
        limit_s = time.monotonic() + RETRY_LIMIT_S
        while time.monotonic() < limit_s:
            answer = slot.ask(
                "POST", "/appointments/", json.dumps(body).encode(), {"Idempotency-Key": f"key-{number}"}
            )
            sure = answer.status not in (0, 409) and answer.status < 500
            facts: dict[str, Any] = {"description": body["service_description"]}
            if answer.status == 201:
                facts["id"] = json.loads(answer.body)["id"]
                self.booked[body["service_description"]] = facts["id"]
            elif answer.status:
                facts["answer"] = answer.body.decode(errors="replace")[:200]
            self.history.add(
                Operation(BOOK, answer.t_call, answer.t_return, answer.status, answer.request, facts=facts)
            )
            if sure or self.stopping.wait(0.2):
                return

    # Looks

    def _look_into_l2(self) -> None:
        world = self.rig.world
        client = redis.Redis.from_url(self.rig.valkey.url(1), socket_timeout=0.5, socket_connect_timeout=0.5)
        keys = list(world.versions)
        names = [f"{PREFIX}:{world.cache_key(key)}" for key in keys]
        while not self.stopping.wait(LOOK_PAUSE_S):
            t_call = time.monotonic_ns()
            try:
                payloads: Any = client.mget(names)
            except redis.RedisError:
                continue
            seen: dict[str, str] = {}
            for key, payload in zip(keys, payloads, strict=True):
                seen |= world.seen_in_l2(key, payload)
            self.history.add(Operation(L2, t_call, time.monotonic_ns(), 200, seen=seen))
        client.close()

    def _watch_workers(self) -> None:
        slots: dict[int, Slot] = {}
        while not self.stopping.wait(STATS_PAUSE_S):
            slots = self.repin(slots)
            for worker, slot in list(slots.items()):
                answer = slot.ask("GET", "/cache/stats/", timeout_s=1.0)
                facts = _facts(json.loads(answer.body)) if answer.status == 200 else {}
                self.history.add(
                    Operation(
                        STATS,
                        answer.t_call,
                        answer.t_return,
                        answer.status,
                        answer.request,
                        worker,
                        facts=facts,
                    )
                )
        for slot in slots.values():
            slot.close()

    # Workers

    def tell_pinned(self, lane: int, workers: int) -> None:
        """A lane has a connection to so many workers."""
        if workers == self.rig.workers:
            self._lanes_pinned.add(lane)
        if len(self._lanes_pinned) == LANES:
            self.pinned.set()

    def repin(self, slots: dict[int, Slot]) -> dict[int, Slot]:
        """The same connections, with new ones for those that are gone and for new workers."""
        if self.rig.worker_class == "sync":
            return slots or {-number: self.rig.slot() for number in range(1, self.rig.workers + 1)}
        kept = {worker: slot for worker, slot in slots.items() if slot.connected and slot.worker == worker}
        for slot in slots.values():
            if slot not in kept.values():
                slot.close()
        now_s = time.monotonic()
        missing = {
            pid
            for pid in self.rig.worker_pids()
            if pid not in kept and now_s >= self._not_before_s.get(pid, 0.0)
        }
        if missing:
            with self._log_lock:
                kept |= self.rig.pinned(missing)
            for pid in missing - kept.keys():
                self._not_before_s[pid] = time.monotonic() + LOST_WORKER_PAUSE_S
        return kept


class Lane:
    """Announces newer versions of its own keys, one after the other, and asks every worker right afterwards."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._number = number
        self._rig = load.rig
        self._world = load.rig.world
        self._keys = [key for key in self._world.versions if int(key[1:]) % LANES == number]
        self._slots: dict[int, Slot] = {}
        self._spare = self._rig.slot()
        self._turn = number * 7

    def run(self) -> None:
        """Go on until the load stops."""
        while True:
            key = self._next_key()
            self._slots = self._load.repin(self._slots)
            self._load.tell_pinned(self._number, len(self._slots))
            version = self._announce(key)
            if version is not None:
                self._ask_all_workers(key, version)
            if self._load.stopping.wait(self._load.lane_pause_s):
                break
        for slot in (*self._slots.values(), self._spare):
            self._load.resent += slot.resent
            slot.close()

    def _next_key(self) -> str:
        self._turn += 1
        return self._keys[self._turn * 13 % len(self._keys)]

    def _announce(self, key: str) -> int | None:
        """Bump and invalidate until it is acknowledged; None where that did not come to be."""
        world = self._world
        kind = world.kind_of(key)
        if kind in self._load.frozen:
            version = world.versions[key]
        else:
            try:
                version = world.bump(key)
            except OSError:
                return None
        limit_s = time.monotonic() + RETRY_LIMIT_S
        while time.monotonic() < limit_s:
            operation = self._by_hand(key) if self._load.announce else self._by_http(key, kind)
            operation.live = {key: version}
            self._load.history.add(operation)
            if operation.status == 200:
                return version
            if self._load.stopping.wait(0.1):
                return None
            self._slots = self._load.repin(self._slots)
        return None

    def _by_http(self, key: str, kind: str) -> Operation:
        body = json.dumps({"entity": kind, "ids": [self._world.ids[key]]}).encode()
        free = [slot for slot in self._slots.values() if not slot.busy]
        slot = free[self._turn % len(free)] if free else self._spare
        answer = slot.ask("POST", "/cache/invalidate/", body)
        facts = {"error": answer.error} if answer.error else {}
        return Operation(
            INVALIDATE, answer.t_call, answer.t_return, answer.status, answer.request, facts=facts
        )

    def _by_hand(self, key: str) -> Operation:
        assert self._load.announce is not None
        t_call, status = time.monotonic_ns(), 200
        try:
            self._load.announce(key)
        except redis.RedisError:
            status = 503
        return Operation(INVALIDATE, t_call, time.monotonic_ns(), status)

    def _ask_all_workers(self, key: str, version: int) -> None:
        """Ask each worker again and again until it shows the new version (or a placeholder), or time is over."""
        path = f"/appointments/{self._world.appointment_of(key)}/"
        waiting = {worker for worker, slot in self._slots.items() if not slot.busy}
        limit_s = time.monotonic() + PROBE_LIMIT_S
        for worker in sorted(waiting):
            self._start(worker, path, waiting)
        while waiting and time.monotonic() < limit_s and not self._load.stopping.is_set():
            for worker, operation in self._answers(limit_s - time.monotonic()):
                shown = version_in(operation.seen.get(key, ""))
                if shown is None or shown[1] >= version:
                    waiting.discard(worker)
                elif worker in waiting:
                    self._start(worker, path, waiting)

    def _start(self, worker: int, path: str, waiting: set[int]) -> None:
        failed = self._slots[worker].start("GET", path)
        if failed is not None:
            self._load.record_page(PROBE, failed)
            waiting.discard(worker)

    def _answers(self, timeout_s: float) -> list[tuple[int, Operation]]:
        busy = {slot: worker for worker, slot in self._slots.items() if slot.busy}
        if not busy:
            return []
        found = []
        ready, _, _ = select.select(list(busy), [], [], max(0.0, min(timeout_s, 0.2)))
        for slot in ready:
            answer = slot.receive()
            if answer is not None:
                found.append((busy[slot], self._load.record_page(PROBE, answer)))
        for slot, worker in busy.items():
            if slot not in ready and slot.waited_s > TIMEOUT_S:
                found.append((worker, self._load.record_page(PROBE, slot.give_up())))
        return found


def _facts(report: dict[str, Any]) -> dict[str, Any]:
    worker = report["worker"]
    channel = worker["tiers"].get("channel", {}).get("-", {})
    return {
        "mode": report["mode"],
        "confirmed": worker["channel_confirmed"],
        "subscriptions": channel.get("reconnect", 0),
        "gaps": channel.get("gap", 0),
        "breakers": worker["breakers"],
    }


def _timing(header: str, name: str) -> float:
    for part in header.split(","):
        if part.strip().startswith(f"{name};dur="):
            return float(part.partition("=")[2])
    return 0.0
