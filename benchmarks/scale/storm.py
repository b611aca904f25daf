"""Pages of a real worker during a storm of invalidations of other keys, with 64 listeners on the server."""

import multiprocessing
import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.contenders import load_reference
from benchmarks.cpu import cpu_seconds
from benchmarks.scale.crowd import Address, crowd
from benchmarks.scale.fake_listener import Behaviour, encode
from benchmarks.scale.operations import invalidate_sha, new_keys
from servease_appt.cache import CachePolicy, Mode, TwoTierCache, connect
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.messages import Invalidation, own_message_parts
from servease_appt.references.entities import CODECS, Reference
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import HOST, EmbeddedValkey

PREFIX = "appointment_service"
DATABASE = 1
WORKERS = 64
NAMES = 60
PAGES_PER_S = 100
PAGE_S = 0.001
"""Processor time of a page besides its names."""
STEP_S = 0.01
Cache = TwoTierCache[Reference]


@dataclass(frozen=True, slots=True)
class StormExtent:
    """Invalidations a second, keys in each message, rounds, and the seconds of one storm."""

    rates: Sequence[int]
    keys_per_message: Sequence[int]
    rounds: int
    seconds: float


def measure_storms(extent: StormExtent) -> list[dict[str, float]]:
    """Return the duration of pages by invalidations a second and keys a message; the first row is no storm."""
    context = multiprocessing.get_context("spawn")
    cases = [(0, 1), *((rate, keys) for keys in extent.keys_per_message for rate in extent.rates)]
    with EmbeddedValkey() as server, connect(server.url(DATABASE), timeout_s=30.0) as client:
        sha = invalidate_sha(client)
        with crowd(Address(server.port, DATABASE, PREFIX), WORKERS - 1, tracking=False) as fakes:
            fakes.behave(Behaviour(lazy=True, counts=False))
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs, server.url(DATABASE)), daemon=True)
            worker.start()
            if ours.recv() != "ready":
                raise RuntimeError("the worker has not started")
            pids = server.pid, _pid_of(worker)
            rounds = [
                [
                    _measure(pids, ours, partial(_storm, server.port, sha, rate, keys, extent.seconds))
                    for rate, keys in cases
                ]
                for _ in range(extent.rounds)
            ]
            ours.send(0.0)
            worker.join(10)
    return [_medians(row) for row in zip(*rounds, strict=True)]


def _measure(pids: tuple[int, int], pipe: Any, storm: partial[int]) -> dict[str, float]:
    """Run a storm beside the worker's pages; `pids` are those of the server and of the worker."""
    *_, keys, seconds = storm.args
    used_s = [cpu_seconds([pid]) for pid in pids]
    pipe.send(seconds)
    sent = storm()
    took_ms = sorted(pipe.recv())
    redis_s, worker_s = (cpu_seconds([pid]) - used for pid, used in zip(pids, used_s, strict=True))
    return {
        "rate": round(sent / seconds),
        "keys_per_message": keys,
        "redis_core": round(redis_s / seconds, 3),
        "worker_core": round(worker_s / seconds, 3),
        "p50_ms": round(took_ms[len(took_ms) // 2], 2),
        "p99_ms": round(took_ms[int(len(took_ms) * 0.99)], 2),
    }


def _medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def _pid_of(worker: Any) -> int:
    pid: int = worker.pid
    return pid


def _work(pipe: Any, url: str) -> None:
    """Answer pages for as long as the pipe says; reply with their durations in ms."""
    policy = CachePolicy(ttl_s=3600, l1_ttl_s=3600, tracking=False)
    with closing(Cache.from_url(url, CODECS, prefix=PREFIX, policy=policy, timeout_s=5.0)) as cache:
        cache.start()
        if not wait_until(lambda: cache.mode is Mode.BOTH, timeout_s=15):
            raise RuntimeError("the channel was not confirmed")
        page = [f"vehicle_00000000-0000-4000-9000-{number:012x}" for number in range(NAMES)]
        cache.get_many(page, load_reference)
        pipe.send("ready")
        while (seconds := pipe.recv()) > 0:
            took_ms, due_s = [], time.monotonic()
            until_s = due_s + seconds
            while due_s < until_s:
                time.sleep(max(0.0, due_s - time.monotonic()))
                began_s = time.perf_counter()
                cache.get_many(page, load_reference)
                busy_until_s = time.thread_time() + PAGE_S
                while time.thread_time() < busy_until_s:
                    pass
                took_ms.append((time.perf_counter() - began_s) * 1000)
                due_s += 1 / PAGES_PER_S
            pipe.send(took_ms)


def _storm(port: int, sha: str, rate: int, keys_per_message: int, seconds: float) -> int:
    """Send invalidations of other keys, without waiting for each answer; return how many keys were named."""
    names, sent = KeySpace(PREFIX), 0
    with socket.create_connection((HOST, port)) as link:
        link.sendall(encode("HELLO", "3") + encode("SELECT", str(DATABASE)))
        link.settimeout(0.0)
        started_s = time.monotonic()
        while (elapsed_s := time.monotonic() - started_s) < seconds:
            commands = []
            while sent + keys_per_message <= rate * elapsed_s:
                keys = new_keys(keys_per_message)
                head, tail = own_message_parts(Invalidation(keys=tuple(keys), source="storm:1:0"))
                group = [names.sequence, *(name for key in keys for name in names.group(key))]
                commands.append(encode("EVALSHA", sha, str(len(group)), *group, names.channel, head, tail))
                sent += keys_per_message
            if commands:
                link.settimeout(seconds)
                link.sendall(b"".join(commands))
                link.settimeout(0.0)
            _drop_answers(link)
            time.sleep(STEP_S)
        link.settimeout(30.0)
        link.sendall(encode("PING"))
        while b"+PONG" not in link.recv(262_144):
            pass
    return sent


def _drop_answers(link: socket.socket) -> None:
    try:
        while link.recv(262_144):
            pass
    except BlockingIOError:
        return
