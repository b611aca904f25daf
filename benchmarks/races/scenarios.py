"""The races that can be forced from outside, on any cache, by one order of events.

Each returns for how long the workers showed the old value, in seconds from the moment the invalidation returned.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from redis import Redis

from benchmarks.races.workers import REDIS_S, Worker
from servease_appt.testing.fault_proxy import LinkKind, Proxy
from servease_appt.testing.servers import EmbeddedValkey

LIMIT_S = REDIS_S + 3.0
"""How long a race is watched: longer than any value may live in Redis."""
_POLL_S = 0.005
_STEP_S = 0.3
"""Time for a server or a worker to handle what was sent to it, where nothing shows that it has."""
_KEY = "item_1"


class Source:
    """What the cached value comes from. A load may be held back after it has read the value."""

    def __init__(self) -> None:
        self.value = "old"
        self.began = threading.Event()
        self._may_return = threading.Event()
        self._may_return.set()

    def load(self) -> str:
        """Return the value as it is when the load begins."""
        value = self.value
        self.began.set()
        self._may_return.wait(LIMIT_S)
        return value

    def load_at_once(self) -> str:
        """Return the value, also while other loads are held back."""
        return self.value

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold back the loads that begin in the block until it ends."""
        self.began.clear()
        self._may_return.clear()
        try:
            yield
        finally:
            self._may_return.set()


@dataclass
class Stage:
    """A server of its own, a source, and the workers of one cache."""

    server: EmbeddedValkey
    proxy: Proxy
    open_worker: Callable[[str], Worker]
    source: Source = field(default_factory=Source)
    open: ExitStack = field(default_factory=ExitStack)

    def worker(self, *, through_proxy: bool = False) -> Worker:
        """Return a new worker that has read something, so that its connections are there."""
        worker = self.open_worker(self.proxy.url() if through_proxy else self.server.url())
        self.open.callback(worker.close)
        worker.read("item_0", lambda: "other")
        time.sleep(_STEP_S)  # for a subscription
        return worker

    def change(self, invalidate: Callable[[str], None]) -> float:
        """Change the source, invalidate, and return the moment at which that was done."""
        self.source.value = "new"
        invalidate(_KEY)
        return time.monotonic()

    def watch(self, workers: Mapping[str, Worker], since: float) -> "Outcome":
        """Read until each worker shows the new value, for `LIMIT_S` at most."""
        stale_s = failing_s = 0.0
        pending = dict(workers)
        while pending and time.monotonic() - since < LIMIT_S:
            for name, worker in list(pending.items()):
                try:
                    value = worker.read(_KEY, self.source.load_at_once)
                except Exception:  # noqa: BLE001 - each package has errors of its own
                    failing_s = time.monotonic() - since
                    continue
                if value == "new":
                    del pending[name]
                elif value == "old":
                    stale_s = time.monotonic() - since
            time.sleep(_POLL_S)
        return Outcome(stale_s, failing_s)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The times of the last old answer and of the last failed read, in seconds since the invalidation; 0: none."""

    stale_s: float
    failing_s: float


Scenario = Callable[[Stage], Outcome]


def plain_invalidation(stage: Stage) -> Outcome:
    """No race: a worker holds the old value, another one invalidates."""
    reader, writer = stage.worker(), stage.worker()
    reader.read(_KEY, stage.source.load)
    reader.read(_KEY, stage.source.load)
    since = stage.change(writer.invalidate)
    return stage.watch({"reader": reader}, since)


def late_reply(stage: Stage) -> Outcome:
    """A reply from Redis with the old value is under way to a worker when another one invalidates."""
    reader, writer = stage.worker(through_proxy=True), stage.worker()
    writer.read(_KEY, stage.source.load)
    with stage.proxy.holding(LinkKind.DATA):
        reading = threading.Thread(target=_read, args=(reader, stage.source.load))
        reading.start()
        time.sleep(_STEP_S)
        since = stage.change(writer.invalidate)
        time.sleep(_STEP_S)
    reading.join()
    return stage.watch({"reader": reader}, since)


def late_fill(stage: Stage) -> Outcome:
    """A worker has loaded the old value and stores it after another one has invalidated."""
    reader, writer = stage.worker(), stage.worker()
    with stage.source.held():
        reading = threading.Thread(target=_read, args=(reader, stage.source.load))
        reading.start()
        stage.source.began.wait(LIMIT_S)
        since = stage.change(writer.invalidate)
    reading.join()
    return stage.watch({"reader": reader, "others": stage.worker()}, since)


def overrun_lock(stage: Stage) -> Outcome:
    """As the late fill, but a third worker has stored the new value before the old one is stored."""
    reader, writer, third = stage.worker(), stage.worker(), stage.worker()
    with stage.source.held():
        reading = threading.Thread(target=_read, args=(reader, stage.source.load))
        reading.start()
        stage.source.began.wait(LIMIT_S)
        since = stage.change(writer.invalidate)
        _read(third, stage.source.load_at_once)
    reading.join()
    return stage.watch({"reader": reader, "others": stage.worker()}, since)


def cut_connection(stage: Stage) -> Outcome:
    """A worker's connections are cut while another one invalidates."""
    reader, writer = stage.worker(through_proxy=True), stage.worker()
    reader.read(_KEY, stage.source.load)
    reader.read(_KEY, stage.source.load)
    stage.proxy.refusing = True
    stage.proxy.reset()
    since = stage.change(writer.invalidate)
    stage.proxy.refusing = False
    return stage.watch({"reader": reader}, since)


def lost_message(stage: Stage) -> Outcome:
    """A worker's connections stay open, but what the server sends on them during an invalidation is lost."""
    reader, writer = stage.worker(through_proxy=True), stage.worker()
    reader.read(_KEY, stage.source.load)
    reader.read(_KEY, stage.source.load)
    for rules in stage.proxy.rules.values():
        rules.swallow_to_client = True
    since = stage.change(writer.invalidate)
    time.sleep(_STEP_S)
    for rules in stage.proxy.rules.values():
        rules.heal()
    return stage.watch({"reader": reader}, since)


def deleted_by_hand(stage: Stage) -> Outcome:
    """An operator deletes the key with another client."""
    reader = stage.worker()
    reader.read(_KEY, stage.source.load)
    reader.read(_KEY, stage.source.load)

    def delete(key: str) -> None:
        with Redis.from_url(stage.server.url()) as client:
            names = [name for name in client.scan_iter(f"*{key}") if b":__" not in name]
            client.delete(*names)

    since = stage.change(delete)
    return stage.watch({"reader": reader}, since)


def restored_snapshot(stage: Stage) -> Outcome:
    """The server restarts from a snapshot that is older than the invalidation."""
    reader, writer = stage.worker(), stage.worker()
    reader.read(_KEY, stage.source.load)
    with Redis.from_url(stage.server.url()) as client:
        client.save()
    since = stage.change(writer.invalidate)
    time.sleep(_STEP_S)
    stage.server.kill()
    stage.server.restart()
    return stage.watch({"reader": reader, "others": stage.worker()}, since)


def _read(worker: Worker, load: Callable[[], str]) -> None:
    """Read once. An error of the package is an error of one request, such as dogpile's lost lock."""
    with suppress(Exception):
        worker.read(_KEY, load)


SCENARIOS: dict[str, tuple[str, Scenario]] = {
    "plain": ("no race: a plain invalidation", plain_invalidation),
    "R1": ("a late reply", late_reply),
    "R2": ("a late fill", late_fill),
    "R6, cut": ("a cut connection", cut_connection),
    "R6, lost": ("a lost message", lost_message),
    "R9": ("a deletion by another client", deleted_by_hand),
    "R17": ("a load that lasts longer than its lock", overrun_lock),
    "R20": ("a restart from an old snapshot", restored_snapshot),
}


def run(name: str, open_worker: Callable[[str], Worker]) -> Outcome:
    """Run one scenario once, on a server of its own."""
    with EmbeddedValkey() as server, Proxy(server.port) as proxy:
        stage = Stage(server, proxy, open_worker)
        with stage.open:
            return SCENARIOS[name][1](stage)
