"""A worker in a process of its own, without a web server: it listens and answers queries."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from servease_appt.cache import connect
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.worker_queries import WorkerQueries
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
        with closing(connect(environment["REDIS_URL"], timeout_s=1.0)) as client:
            queries = WorkerQueries(client, KeySpace(prefix))
            assert wait_until(lambda: queries.listeners() == 1, timeout_s=60)
        yield worker.pid
    finally:
        worker.communicate()
