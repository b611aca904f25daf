"""PostgreSQL with appointments, the service in front of it, and load with the processor time that it takes."""

import contextlib
import http.client
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt

from benchmarks.cpu import cpu_seconds
from benchmarks.rows import introduce_people, person
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.gunicorn import Gunicorn
from tests.support.processes import descendants

SECRET: Final = "a-secret-for-benchmarks-of-32-bytes-or-more"  # noqa: S105 - opens nothing but what is started here
APPOINTMENTS: Final = 100_000
_GENERATOR: Final = Path(__file__).parents[1] / "load.py"
_BURSTS: Final = 10
_ATTEMPTS: Final = 5
_LISTS: Final = tuple(f"/api/v1/appointments/?page={page}" for page in range(1, 21))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What some seconds of load were like.

    Attributes:
        per_s: lists a second.
        p99_ms: the 99th percentile of their times.
        lists: how many in all, those included that do not count for `per_s`.
        seconds: how long the generator ran.
        used_s: processor time of each watched server meanwhile.
    """

    per_s: float
    p99_ms: float
    lists: int
    seconds: float
    used_s: list[float]


class Testbed:
    """Redis and the other services, for applications on any database. Each application is started once."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="servease-bench-")))
        self._valkey = stack.enter_context(EmbeddedValkey())
        self._fake_services = stack.enter_context(FakeServices())
        introduce_people(self._fake_services)
        self._numbers = itertools.count()
        self.redis_url = self._valkey.url(1)

    def token(self, number: int) -> str:
        """Return the token of an admin."""
        claims = {
            "user_id": person("customer", number),
            "user_role": "admin",
            "exp": int(time.time()) + 7200,
        }
        return jwt.encode(claims, SECRET, algorithm="HS256")

    def serve(self, database_url: str, *, workers: int, threads: int, **settings: str) -> Gunicorn:
        """Start the service."""
        number = next(self._numbers)
        directory = self._directory / str(number)
        directory.mkdir()
        environment = {
            "SECRET_KEY": SECRET,
            "DATABASE_URL": database_url,
            "REDIS_URL": self.redis_url,
            "CACHE_KEY_PREFIX": f"bench_{number}",
            "RATE_LIMIT_PER_MINUTE": "0",
            "RATE_LIMIT_COSTLY_PER_MINUTE": "0",
            **self._fake_services.settings,
            **settings,
        }
        return self._stack.enter_context(Gunicorn(environment, directory, workers=workers, threads=threads))

    def burst(self, server: Gunicorn, clients: int) -> None:
        """Have that many clients ask at once, a few times; what the service refuses because of that is ignored."""
        together = threading.Barrier(clients)

        def ask(_client: int) -> None:
            for _ in range(_BURSTS):
                together.wait()
                with contextlib.closing(
                    http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
                ) as one:
                    one.request("GET", _LISTS[0], headers={"Authorization": f"Bearer {self.token(1)}"})
                    one.getresponse().read()

        with ThreadPoolExecutor(clients) as executor:
            list(executor.map(ask, range(clients)))

    def load(
        self, server: Gunicorn, *, connections: int, seconds: float, watched: Sequence[int] = ()
    ) -> Loaded:
        """Have that many clients read one list after the other, the first twenty pages in turns.

        Args:
            server: what is asked.
            connections: how many clients.
            seconds: for how long.
            watched: processes whose processor time is measured, with all below them.
        """
        arguments = [str(server.port), str(connections), str(seconds), self.token(1), *_LISTS]
        for attempt in range(_ATTEMPTS):
            began_s, before_s = time.monotonic(), [processor_s(pid) for pid in watched]
            done = subprocess.run(
                [sys.executable, str(_GENERATOR), *arguments], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                break
            # Where a worker gets no processor time for a second, it refuses requests.
            sys.stderr.write(f"refused, attempt {attempt + 1}\n")
        else:
            raise RuntimeError(done.stderr or done.stdout)
        measured: dict[str, Any] = json.loads(done.stdout)
        return Loaded(
            per_s=measured["requests"] / measured["seconds"],
            p99_ms=measured["p99"],
            lists=measured["all_requests"],
            seconds=time.monotonic() - began_s,
            used_s=[processor_s(pid) - at_s for pid, at_s in zip(watched, before_s, strict=True)],
        )


def processor_s(pid: int) -> float:
    """Return the processor time of a process and of all below it that still run."""
    return cpu_seconds({pid, *descendants(pid)})
