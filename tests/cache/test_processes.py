"""Several processes on one server: one load for all, a holder that is killed, a fork, an end without a word."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.testbed import PREFIX, eventually

K = "customer_1"


class Worker:
    """A `tests.cache.worker` process."""

    def __init__(self, url: str, **policy: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cache.worker", url, json.dumps(policy)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, do: str, **details: Any) -> None:
        """Give a command and do not wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **details}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """The answer to the oldest unanswered command."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, do: str, **details: Any) -> Any:
        """Give a command and wait for its answer."""
        self.tell(do, **details)
        return self.answer()

    def end(self) -> None:
        """Have it end, by force if it must be."""
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()


MakeWorkers = Callable[..., list[Worker]]


@pytest.fixture
def make_workers(redis_url: str) -> Iterator[MakeWorkers]:
    """Makes worker processes that listen, side by side: a start takes a while."""
    made: list[Worker] = []

    def make(count: int, **policy: float) -> list[Worker]:
        new = [Worker(redis_url, **policy) for _ in range(count)]
        made.extend(new)
        for worker in new:
            worker.tell("ready")
        for worker in new:
            worker.answer()
        return new

    yield make
    for worker in made:
        worker.end()


@pytest.fixture
def shared(valkey: EmbeddedValkey, redis_url: str) -> Iterator[redis.Redis]:
    """Database 0, where the workers' source lies, empty."""
    with redis.Redis.from_url(valkey.url(0)) as source:
        yield source


def loads(shared: redis.Redis, key: str = K) -> int:
    """How often a key was loaded by anybody."""
    counted: Any = shared.get(f"loads:{key}")
    return int(counted or 0)


def evaluations(client: redis.Redis) -> int:
    """How many scripts the server has run."""
    stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


def test_one_load_for_all_workers(make_workers: MakeWorkers, shared: redis.Redis) -> None:
    """K8. Four processes with eight threads each come for a cold key at once: the source is asked one time."""
    workers = make_workers(4, load_timeout_s=20.0)
    shared.set(f"source:{K}", 1)
    shared.set(f"held:{K}", 1)
    for worker in workers:
        worker.tell("read", keys=[K], threads=8)
    eventually(lambda: loads(shared) == 1)
    # All four have asked for the lease: one has it, the others have been told who.
    before = evaluations(shared)
    eventually(lambda: evaluations(shared) >= before + 3, "the asking by those who wait")
    shared.delete(f"held:{K}")
    shared.rpush(f"gate:{K}", "go")
    for worker in workers:
        assert worker.answer() == [{K: 1}] * 8
    assert loads(shared) == 1


def test_a_holder_that_is_killed(make_workers: MakeWorkers, shared: redis.Redis) -> None:
    """A has the lease and is killed in its load. B, who waits, takes over after a quarter of the deadline, long
    before the lease would have ended."""
    a, b = make_workers(2, load_timeout_s=4.0)
    shared.set(f"source:{K}", 1)
    shared.set(f"held:{K}", 1)
    a.tell("read", keys=[K])
    eventually(lambda: loads(shared) == 1)
    a.process.kill()
    shared.delete(f"held:{K}")
    began_s = time.monotonic()
    assert b.ask("read", keys=[K]) == [{K: 1}]
    assert time.monotonic() - began_s < 3.0
    assert loads(shared) == 2


def test_an_invalidation_reaches_every_process(make_workers: MakeWorkers, shared: redis.Redis) -> None:
    """One process invalidates, all others have dropped theirs before long; then one load serves all."""
    workers = make_workers(3)
    shared.set(f"source:{K}", 1)
    for worker in workers:
        assert worker.ask("read", keys=[K]) == [{K: 1}]
    shared.set(f"source:{K}", 2)
    assert workers[0].ask("invalidate", keys=[K]) == 1
    for worker in workers:
        eventually(lambda worker=worker: worker.ask("l1", keys=[K]) == {K: None})  # type: ignore[misc]
    for worker in workers:
        assert worker.ask("read", keys=[K]) == [{K: 2}]
    assert loads(shared) == 2


def run(code: str, *arguments: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


PREPARE = f"""
import os, sys, threading, time
from servease_appt.cache import connect
from tests.cache.testbed import *
def make(url, **options):
    return Cache(connect(url, timeout_s=1.0), CODECS, prefix={PREFIX!r}, policy=POLICY, **options)
source = Source()
source.put({K!r})
"""

FORK = (
    PREPARE
    + f"""
import multiprocessing
cache = listening(make(sys.argv[1]))
cache.get({K!r}, source.load)
settle(cache); settle(cache)
assert held_in_l1(cache, {K!r})
ready, go = multiprocessing.Pipe()

def child(by):
    assert cache.identity != parent, "the child has its parent's identity"
    assert cache.channel is None and cache.l1.size() == 0
    assert not any("servease" in thread.name for thread in threading.enumerate())
    assert cache.get({K!r}, source.load) == Versioned("1", 1)
    listening(cache)
    settle(cache); cache.get({K!r}, source.load); settle(cache)
    assert held_in_l1(cache, {K!r})
    go.send(by)
    eventually(lambda: held_in_l1(cache, {K!r}) is None, "the child's hearing of the invalidation")
    cache.close()

parent = cache.identity
pid = os.fork()
if pid == 0:
    try:
        child("fork")
        os._exit(0)
    except BaseException:
        import traceback; traceback.print_exc()
        os._exit(1)
process = multiprocessing.get_context("fork").Process(target=child, args=("multiprocessing",))
process.start()
print(sorted(ready.recv() for _ in range(2)))
assert cache.identity == parent
cache.get({K!r}, source.load); settle(cache)
assert held_in_l1(cache, {K!r}), "the parent's connections are still its own"
other = listening(make(sys.argv[1]))
other.invalidate([{K!r}])
eventually(lambda: held_in_l1(cache, {K!r}) is None, "the parent's hearing of the invalidation")
_, status = os.waitpid(pid, 0)
process.join(10)
print(os.waitstatus_to_exitcode(status), process.exitcode)
"""
)


def test_a_fork(redis_url: str) -> None:
    """R13. Children of a listening process have an identity, an L1 and a listener of their own, and take nothing
    from the parent: both hear an invalidation by a third."""
    ended = run(FORK, redis_url)
    assert ended.stdout == "['fork', 'multiprocessing']\n0 0\n", ended.stderr


FORKS = (
    PREPARE
    + f"""
cache = listening(make(sys.argv[1]))
stop = threading.Event()
def busy():
    while not stop.is_set():
        cache.get_many([{K!r}, "vehicle_1"], source.load)
        cache.invalidate([{K!r}])
threads = [threading.Thread(target=busy) for _ in range(4)]
for thread in threads: thread.start()
failed = 0
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        import signal
        signal.alarm(10)
        try:
            assert cache.get({K!r}, lambda key, left_s: Versioned("1", 1)).id == "1"
            cache.invalidate([{K!r}])
            os._exit(0)
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(1)
    failed += os.waitpid(pid, 0)[1] != 0
stop.set()
for thread in threads: thread.join()
cache.close()
print("failed", failed)
"""
)


def test_forks_of_a_busy_process(redis_url: str) -> None:
    """R13. Forked at any moment, with locks held by whatever thread, a child reads and invalidates."""
    ended = run(FORKS, redis_url, timeout_s=60)
    assert ended.stdout == "failed 0\n", ended.stderr


EXITS = {
    "idle": "",
    "in use": "cache.get('customer_1', source.load)",
    "closed": "cache.get('customer_1', source.load); cache.close(); cache.close()",
    "with a load under way": """
from servease_appt.cache import LoadFailed
started = threading.Event()
def slow(key, left_s):
    started.set()
    time.sleep(0.5)
    raise LoadFailed(key)
threading.Thread(target=cache.get, args=("customer_2", slow), daemon=True).start()
started.wait(10)
""",
    "by an error": "sys.excepthook = lambda *_: None; cache.get('customer_1', source.load); raise SystemExit(0)",
}


@pytest.mark.parametrize("redis_there", [True, False], ids=["Redis there", "Redis away"])
@pytest.mark.parametrize("how", EXITS)
def test_the_end_of_a_process(how: str, redis_there: bool, redis_url: str) -> None:
    """However a program ends that forgot to close its cache, it ends: soon, with 0, and without a word."""
    code = PREPARE + "cache = make(sys.argv[1])\ncache.start()\n" + EXITS[how]
    ended = run(code, redis_url if redis_there else "redis://127.0.0.1:1/1", timeout_s=20)
    said = [line for line in ended.stderr.splitlines() if "going on without it" not in line]
    assert (ended.returncode, said) == (0, [])
