"""The servers of one experiment: PostgreSQL, Valkey behind a proxy, three fake services, gunicorn."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import jwt
import redis

from faults import broken
from faults.dataset import Dataset
from faults.http_client import Slot
from faults.links import Links
from servease_appt.db.migrate import upgrade
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey
from tests.support.gunicorn import Gunicorn

SECRET = "a-secret-for-faults-of-32-bytes-or-more"  # noqa: S105 - of servers that live for minutes
PREFIX = "appointment_service"
UPSTREAM_DELAY_S = 0.01
WORKER_CLASSES = {"gthread": "servease_appt.serving.worker.BufferingWorker", "sync": "sync"}
_PIN_TRIES = 120
_PIN_LIMIT_S = 2.0
_ADMIN = "00000000-0000-4000-8000-000000000001"
LOOK_TIMEOUT_S = 0.5


class L2Reader(Protocol):
    """Reads values straight from L2, without the service. For one thread."""

    def mget(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Return the values, None for what is not there or not readable. Raises redis-py's errors."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class AccessLog:
    """Finds out which worker answered a request, from the service's own log. For one thread at a time."""

    _LINE = re.compile(r'"pid": (\d+), .*"request_id": "(f-[0-9a-f-]+)"')

    def __init__(self, *paths: Path) -> None:
        self._files = [path.open(errors="replace") for path in paths]
        self._workers: dict[str, int] = {}
        self._parts = [""] * len(paths)

    def read_on(self) -> None:
        """Read what was written since the last call."""
        for number, file in enumerate(self._files):
            *lines, self._parts[number] = (self._parts[number] + file.read()).split("\n")
            for line in lines:
                if match := self._LINE.search(line):
                    self._workers[match[2]] = int(match[1])

    def worker_of(self, request: str, timeout_s: float = 0.0) -> int:
        """Return the process id; 0 if the log does not have it in time."""
        limit_s = time.monotonic() + timeout_s
        while request not in self._workers:
            self.read_on()
            if request in self._workers or time.monotonic() > limit_s:
                break
            time.sleep(0.001)
        return self._workers.get(request, 0)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


class Testbed:
    """The whole service, started for an experiment. A context manager.

    Args:
        workers: how many gunicorn workers.
        worker_class: `gthread` or `sync`.
        broken: the name of a protection that the served build lacks; None: the service as it is.
    """

    look_pause_s = 0.02
    """Seconds between two direct reads of L2."""

    def __init__(self, *, workers: int = 4, worker_class: str = "gthread", broken: str | None = None) -> None:
        self.workers = workers
        self.broken = broken
        self.worker_class = worker_class
        self.directory = Path(tempfile.mkdtemp(prefix="servease-faults-"))
        self._stack = contextlib.ExitStack()
        self._names = itertools.count(1)
        self.booking_numbers = itertools.count()
        claims = {"user_id": _ADMIN, "user_role": "admin", "exp": int(time.time()) + 36_000}
        self.token = jwt.encode(claims, SECRET, algorithm="HS256")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._remove_directory)
            self.postgres = stack.enter_context(EmbeddedPostgres())
            self._start_l2(stack)
            self.fake_services = stack.enter_context(FakeServices(self.directory, delay_s=UPSTREAM_DELAY_S))
            self.database_url = self.postgres.create_database("faults").replace("://", "+psycopg2://", 1)
            upgrade(self.database_url)
            self.dataset = Dataset(self.fake_services)
            self.dataset.seed(self.database_url)
            self._stack = stack.pop_all()
        try:
            self.serve()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_serving()
        self._stack.close()

    def _start_l2(self, stack: contextlib.ExitStack) -> None:
        """Start what is behind `REDIS_URL`, and set `redis_url` to its value."""
        self.valkey = stack.enter_context(EmbeddedValkey())
        self.links = Links(self.valkey.port)
        stack.callback(self.links.close)
        self.redis_url = self.links.url
        self.redis = redis.Redis.from_url(self.valkey.url(1), socket_timeout=1.0)
        stack.callback(self.redis.close)

    def l2_reader(self) -> L2Reader:
        """Return a new client that reads L2 past the proxy."""
        client: Any = redis.Redis.from_url(
            self.valkey.url(1), socket_timeout=LOOK_TIMEOUT_S, socket_connect_timeout=LOOK_TIMEOUT_S
        )
        reader: L2Reader = client
        return reader

    def serve(self) -> None:
        """Start gunicorn and wait until every worker answers."""
        self._serving = self._start_gunicorn()
        self.gunicorn = self._serving[0]
        self.access_log = AccessLog(*(gunicorn.log for gunicorn in self._serving))
        self._next_to_ask = itertools.cycle(self._serving)
        if not self.wait_for_mode():
            raise RuntimeError(f"the workers did not come up:\n{self.read_log()}")

    def _start_gunicorn(self) -> list[Gunicorn]:
        return [self._gunicorn(self.workers).start()]

    def _gunicorn(self, workers: int, **where: Any) -> Gunicorn:
        directory = self.directory / f"gunicorn-{next(self._names)}"
        directory.mkdir()
        arguments = ("--worker-class", WORKER_CLASSES[self.worker_class])
        threads = 1 if self.worker_class == "sync" else 8  # more would make it gthread
        settings = {
            "SECRET_KEY": SECRET,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "PYTHONUNBUFFERED": "1",
            **self.fake_services.settings,
        }
        application = "wsgi:app"
        if self.broken is not None:
            settings[broken.VARIABLE], application = self.broken, broken.APPLICATION
        return Gunicorn(
            settings,
            directory,
            workers=workers,
            threads=threads,
            arguments=arguments,
            application=application,
            **where,
        )

    def stop_serving(self) -> None:
        """Stop gunicorn."""
        for gunicorn in self._serving:
            gunicorn.stop()
        self.access_log.close()

    def read_log(self) -> str:
        """Return what the workers have logged."""
        return "".join(gunicorn.read_log() for gunicorn in self._serving)

    def slot(self) -> Slot:
        """Return a new slot for a connection to the service; of several gunicorns to one after the other."""
        gunicorn = next(self._next_to_ask)
        keep_alive = self.worker_class != "sync"
        return Slot(gunicorn.port, self.token, host=gunicorn.address, keep_alive=keep_alive)

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers."""
        found: list[int] = []
        for gunicorn in self._serving:
            master = gunicorn.pid
            with contextlib.suppress(FileNotFoundError):
                found += map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())
        return found

    def pinned(self, wanted: set[int]) -> dict[int, Slot]:
        """Return a kept connection to each of these workers, as far as opening many connections finds them."""
        found: dict[int, Slot] = {}
        others: list[Slot] = []
        limit_s = time.monotonic() + _PIN_LIMIT_S
        for _ in range(_PIN_TRIES):
            if wanted <= found.keys() or time.monotonic() > limit_s:
                break
            slot = self.slot()
            worker = self._worker_behind(slot)
            if worker in wanted and worker not in found:
                slot.worker = worker
                found[worker] = slot
            else:
                others.append(slot)  # kept until the end, so that the kernel hands out other workers
        for slot in others:
            slot.close()
        return found

    def _worker_behind(self, slot: Slot) -> int:
        answer = slot.ask("GET", "/health/", timeout_s=0.5)
        return self.access_log.worker_of(answer.request, 0.5) if answer.status == 200 else 0

    def wait_for_mode(self, mode: str = "both", timeout_s: float = 20.0) -> bool:
        """Wait until every worker reports this mode of its cache."""
        return wait_until(lambda: self._modes() == [mode] * self.workers, timeout_s=timeout_s, interval_s=0.1)

    def _modes(self) -> list[str]:
        pids = self.worker_pids()
        modes: dict[int, str] = {}
        for _ in range(30):
            # Several at once, or the worker that is awake answers them all.
            slots = [self.slot() for _ in range(self.workers)]
            started = [slot for slot in slots if slot.start("GET", "/cache/stats/") is None]
            for answer in [slot.wait(1.0) for slot in started]:
                if answer.status == 200:
                    worker = self.access_log.worker_of(answer.request, 0.5)
                    modes[worker] = json.loads(answer.body)["mode"]
            for slot in slots:
                slot.close()
            if set(pids) <= modes.keys():
                break
        return [modes.get(pid, "unknown") for pid in pids]

    def _remove_directory(self) -> None:
        import shutil

        shutil.rmtree(self.directory, ignore_errors=True)


sys.setswitchinterval(0.0005)
