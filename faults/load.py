"""The steady load of an experiment: what each of its threads does until the experiment ends."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import redis

from faults.history import BOOK, L2, PAGE, STATS, History, Operation
from faults.http_client import Answer, Slot
from faults.testbed import PREFIX, Testbed

BROWSERS = 3
WRITERS = 2
WRITER_PAUSE_S = 0.04
RETRY_LIMIT_S = 15.0
PAGE_PAUSE_S = 0.08
BOOK_PAUSE_S = 0.5
STATS_PAUSE_S = 0.1
LOST_WORKER_PAUSE_S = 1.0


class Load:
    """Threads that send requests for as long as the context lasts. All operations go into `history`.

    Attributes:
        pinned: set once every writer has a connection to each worker.
        frozen: entities (`customer`, …) whose versions do not change, since their service is being broken.
        writer_pause_s: seconds that a writer waits between two invalidations.
        rushing: whether writers announce versions while loads of the ones before are under way. Not with sync
            workers: each would wait for a writer to read its answer, while the writer waits for one of them.
        announce: announces a key's new version instead of HTTP; raises redis-py's errors.
        booked: ids of the bookings that were answered with 201, by description.
        resent: number of requests sent again because the server had closed a kept connection.
    """

    def __init__(self, testbed: Testbed, history: History, run_writer: Callable[[Load, int], None]) -> None:
        self._run_writer = run_writer
        self.testbed = testbed
        self.history = history
        self.frozen: set[str] = set()
        self.announce: Callable[[str], object] | None = None
        self.writer_pause_s = WRITER_PAUSE_S
        self.rushing = self._rushes = testbed.worker_class != "sync"
        self.stopping = threading.Event()
        self.booked: dict[str, str] = {}
        self.errors: list[BaseException] = []
        self.resent = 0
        self._log_lock = threading.Lock()
        self.pinned = threading.Event()
        self._writers_pinned: set[int] = set()
        self._threads: list[threading.Thread] = []
        self._not_before_s: dict[int, float] = {}

    def as_usual(self) -> None:
        """Undo the changes of a fault."""
        self.frozen.clear()
        self.announce, self.rushing = None, self._rushes

    def __enter__(self) -> Self:
        jobs: list[Callable[[], None]] = [
            partial(self._run_writer, self, number) for number in range(WRITERS)
        ]
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
        """Record a page."""
        seen: dict[str, str] = {}
        facts: dict[str, Any] = {}
        if answer.status == 200:
            seen = self.testbed.dataset.seen_in(json.loads(answer.body))
            facts = {"cache_ms": _timing(answer.headers.get("server-timing", ""), "cache")}
        elif answer.error:
            facts = {"error": answer.error}
        operation = Operation(
            op, answer.t_call, answer.t_return, answer.status, answer.request, seen=seen, facts=facts
        )
        self.history.add(operation)
        return operation

    def _browse(self, number: int) -> None:
        slot = self.testbed.slot()
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
        slot = self.testbed.slot()
        for number in self.testbed.booking_numbers:
            self._book_until_sure(slot, number)
            if self.stopping.wait(BOOK_PAUSE_S):
                break
        slot.close()

    def _book_until_sure(self, slot: Slot, number: int) -> None:
        """Book like a careful client: repeat the request with the same key until the answer is certain."""
        body = self.testbed.dataset.booking(number)
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

    # Direct reads

    def _look_into_l2(self) -> None:
        dataset = self.testbed.dataset
        reader = self.testbed.l2_reader()
        keys = list(dataset.versions)
        names = [f"{PREFIX}:{dataset.cache_key(key)}" for key in keys]
        while not self.stopping.wait(self.testbed.look_pause_s):
            t_call = time.monotonic_ns()
            try:
                payloads = reader.mget(names)
            except redis.RedisError:
                continue
            seen: dict[str, str] = {}
            for key, payload in zip(keys, payloads, strict=True):
                seen |= dataset.seen_in_l2(key, payload)
            self.history.add(Operation(L2, t_call, time.monotonic_ns(), 200, seen=seen))
        reader.close()

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

    def tell_pinned(self, writer: int, workers: int) -> None:
        """Record that a writer has a connection to so many workers."""
        if workers == self.testbed.workers:
            self._writers_pinned.add(writer)
        if len(self._writers_pinned) == WRITERS:
            self.pinned.set()

    def repin(self, slots: dict[int, Slot]) -> dict[int, Slot]:
        """Replace lost connections, and add connections to new workers."""
        if self.testbed.worker_class == "sync":
            return slots or {-number: self.testbed.slot() for number in range(1, self.testbed.workers + 1)}
        kept = {worker: slot for worker, slot in slots.items() if slot.connected and slot.worker == worker}
        for slot in slots.values():
            if slot not in kept.values():
                slot.close()
        now_s = time.monotonic()
        missing = {
            pid
            for pid in self.testbed.worker_pids()
            if pid not in kept and now_s >= self._not_before_s.get(pid, 0.0)
        }
        if missing:
            with self._log_lock:
                kept |= self.testbed.pinned(missing)
            for pid in missing - kept.keys():
                self._not_before_s[pid] = time.monotonic() + LOST_WORKER_PAUSE_S
        return kept


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
