"""A worker in a process of its own, without a web server: it listens and answers queries."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import redis

from servease_appt.testing.processes import wait_until

_CODE = """
import sys
from servease_appt.app import create_app
app = create_app()
cache = app.extensions["servease"].lookups.cache
cache.start()
print("started", flush=True)
sys.stdin.read()
cache.close()
"""


@contextmanager
def worker_process(environment: Mapping[str, str], *, prefix: str = "appointment_service") -> Iterator[int]:
    """Run a worker until the block ends. Yields its process id once it listens."""
    worker = subprocess.Popen(
        [sys.executable, "-c", _CODE],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        with redis.Redis.from_url(environment["REDIS_URL"]) as client:

            def listens() -> bool:
                return dict(client.pubsub_numsub(f"{prefix}:__ask")).get(f"{prefix}:__ask".encode()) == 1

            assert wait_until(listens, timeout_s=20)
        yield worker.pid
    finally:
        worker.communicate()
