"""The backend under gunicorn, whose four workers share nothing but Redis."""

import http.client
import os
import sys
from pathlib import Path

import pytest
import redis

from servease_appt.testing.processes import GuardedProcess
from servease_appt.testing.servers import free_port
from tests.cache.testbed import eventually

ROUNDS = 75
READS = 8
WORKERS = 4


def ask(port: int, method: str = "GET") -> str:
    """One request on a connection of its own, so that any of the workers may get it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def answers(port: int) -> bool:
    """Whether gunicorn listens."""
    try:
        return bool(ask(port))
    except OSError:
        return False


@pytest.mark.parametrize("preload", [False, True])
def test_no_read_after_delete_memoized_is_old(redis_url: str, tmp_path: Path, preload: bool) -> None:
    """Whichever worker answers it, and whether they were forked before or after the first call."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--threads", "2"]
    command += ["--bind", f"127.0.0.1:{port}", *(["--preload"] if preload else [])]
    environment = os.environ | {"HOST_REDIS_URL": redis_url, "HOST_WARMS_UP": "1" if preload else ""}
    gunicorn = GuardedProcess(
        [*command, "tests.cache.flask_caching_host:app"], log=tmp_path / "log", environment=environment
    )
    try:
        eventually(lambda: answers(port), "the start of gunicorn", timeout_s=30)
        workers: set[str] = set()

        def all_have_answered() -> bool:
            workers.add(ask(port))
            return len(workers) == WORKERS

        eventually(all_have_answered, "an answer of each worker", timeout_s=30)
        with redis.Redis.from_url(redis_url) as source:
            stale = 0
            for number in range(1, ROUNDS + 1):
                source.set("number", number)
                assert ask(port, "POST") == "done"
                stale += sum(int(ask(port).split()[0]) < number for _ in range(READS))
        assert stale == 0
    finally:
        gunicorn.stop()
