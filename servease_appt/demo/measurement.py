"""Measure a page of the appointment list: cold, from a second worker, and warm."""

import contextlib
import statistics
import time
from dataclasses import dataclass
from typing import Any

import redis

from servease_appt.demo.web import API, Answer, Connection
from servease_appt.testing.fake_services import FakeService, FakeServices

LIST = f"{API}/appointments/"
COLD_RUNS = 5
WARM_RUNS = 21
_CONNECTIONS_TO_TRY = 60
_UPSTREAM_RUNS = 5


@dataclass(frozen=True, slots=True)
class Fetch:
    """One fetch of the list.

    Attributes:
        took_ms: from the request's first byte to the answer's last, as the client sees it.
        upstream_calls: calls that the three services counted during the fetch.
        redis_commands: names of the commands that the workers sent during the fetch.
        x_cache: the answer's header `X-Cache`.
    """

    status: int
    rows: list[dict[str, Any]]
    took_ms: float
    upstream_calls: int
    redis_commands: tuple[str, ...]
    x_cache: str

    @property
    def sources(self) -> dict[str, int]:
        """Return the counts in `x_cache` by source."""
        return {name: int(count) for name, _, count in (part.partition("=") for part in self.x_cache.split())}


@dataclass(frozen=True, slots=True)
class Measurement:
    """The results.

    Attributes:
        upstream_call_ms: one call of one service over an open connection.
        cold: by one worker, with both tiers empty.
        other_worker: by the other worker, right after a cold one; empty if no connection reached that worker.
        warm: by the first worker again.
    """

    upstream_call_ms: float
    cold: list[Fetch]
    other_worker: list[Fetch]
    warm: list[Fetch]

    @property
    def references(self) -> int:
        """Return the number of distinct customers, vehicles and employees on the page."""
        names = ("customer_id", "vehicle_id", "assigned_employee_id")
        return len({row[name] for row in self.cold[0].rows for name in names if row[name]})


def typical(fetches: list[Fetch]) -> Fetch:
    """Return the fetch with the median time."""
    return sorted(fetches, key=lambda fetch: fetch.took_ms)[len(fetches) // 2]


def typical_commands(fetches: list[Fetch]) -> int:
    """Return the median number of Redis commands: a worker's own checks, once a second, fall into some fetches."""
    return statistics.median_low(len(fetch.redis_commands) for fetch in fetches)


class Meter:
    """Fetches the list and counts the calls and commands that it causes.

    The Redis commands are those that the workers sent during the request, as MONITOR shows them. Not counted
    are the connections on which the workers receive invalidations and send heartbeats, with or without
    requests. A script counts as the one command that ran it.
    """

    def __init__(self, port: int, token: str, redis_url: str, fake_services: FakeServices) -> None:
        self._port = port
        self._token = token
        self._redis = redis.Redis.from_url(redis_url, decode_responses=True)
        self._stand_ins = fake_services

    def measure(self) -> Measurement:
        """Fetch the list cold, from the other worker, and warm."""
        with self._redis, contextlib.ExitStack() as connections:
            upstream_call_ms = self._upstream_call_ms(self._stand_ins.vehicles)
            connection = connections.enter_context(self._connect())
            cold = [self._fetch_cold(connection)]
            other_connection = self._connect_to_other_worker(connections)
            other_worker = []
            while len(cold) < COLD_RUNS:
                cold.append(self._fetch_cold(connection))
                if other_connection:
                    other_worker.append(self._fetch(other_connection))
            warm = [self._fetch(connection) for _ in range(WARM_RUNS)]
        return Measurement(upstream_call_ms, cold, other_worker, warm)

    def _connect(self) -> Connection:
        return Connection(self._port, self._token)

    def _fetch_cold(self, connection: Connection) -> Fetch:
        # Every worker receives the flush and empties its L1; the answer shows whether this one already had.
        for _ in range(20):
            self._redis.flushdb()
            fetch = self._fetch(connection)
            if fetch.sources["l1"] == fetch.sources["l2"] == 0:
                break
        return fetch

    def _connect_to_other_worker(self, connections: contextlib.ExitStack) -> Connection | None:
        """Return a connection to the worker that has to read the names from Redis, or None.

        The kernel assigns connections to workers, so several are opened and kept until one reaches it.
        """
        for _ in range(_CONNECTIONS_TO_TRY):
            connection = connections.enter_context(self._connect())
            if self._fetch(connection).sources["l2"]:
                return connection
        return None

    def _fetch(self, connection: Connection) -> Fetch:
        calls_before = self._stand_ins.total_calls()
        with self._redis.monitor() as monitor:  # type: ignore[no-untyped-call] # redis-py's own has no types
            began = time.perf_counter()
            answer: Answer = connection.get(LIST)
            took_ms = (time.perf_counter() - began) * 1000
            commands = self._seen_until_now(monitor)
        return Fetch(
            status=answer.status,
            rows=answer.body["results"] if answer.status == 200 else [],
            took_ms=took_ms,
            upstream_calls=self._stand_ins.total_calls() - calls_before,
            redis_commands=commands,
            x_cache=answer.headers.get("X-Cache", ""),
        )

    def _seen_until_now(self, monitor: Any) -> tuple[str, ...]:
        clients = self._redis.client_list()
        listening = {client["addr"] for client in clients if int(client["sub"])}
        listening.add(next(c["addr"] for c in clients if c["id"] == str(self._redis.client_id())))
        self._redis.echo("end of the request")
        commands = []
        while (seen := monitor.next_command())["command"] != "ECHO end of the request":
            address = f"{seen['client_address']}:{seen['client_port']}"
            if seen["client_type"] != "lua" and address not in listening:
                commands.append(seen["command"].split(" ")[0].upper())
        return tuple(commands)

    def _upstream_call_ms(self, service: FakeService) -> float:
        path = f"{API}/vehicles/00000000-0000-4000-8000-000000000000/"
        times = []
        with Connection(service.port, self._token) as connection:
            for _ in range(_UPSTREAM_RUNS):
                began = time.perf_counter()
                connection.get(path)
                times.append((time.perf_counter() - began) * 1000)
        return statistics.median(times)
