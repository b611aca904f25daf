"""One client requests pages from several servers in turns: a few from each, in a new random order each time.

Disturbances of the machine affect all servers alike, so that differences smaller than the machine's own noise can
be measured. The first requests of each turn do not count: the processor's caches still hold data of the server
before.
"""

import random
import statistics
import time
from collections.abc import Mapping
from contextlib import closing

from benchmarks.cpu import cpu_seconds
from benchmarks.load import Connection
from benchmarks.measure import Rounds
from benchmarks.target import Target

WARM_UP_REQUESTS = 40
WARM_UP_S = 2.0
FEWEST_TURNS = 3
TURN = 20
NOT_COUNTED = 5
LONGEST_TURN_S = 0.5
RECONNECT_AFTER_S = 1.0
"""Before the servers close it: gunicorn keeps an idle connection for `keepalive` seconds."""


class Client:
    """Requests the page of one target over a kept connection."""

    def __init__(self, target: Target, token: str) -> None:
        self.target = target
        self.answers = 0
        self.latencies_ms: list[float] = []
        self._request = target.request(token)
        self._connection = self._connect()

    def _connect(self) -> Connection:
        return Connection(self.target.server.port, [self._request], 0)

    def ask(self) -> float:
        """Return the milliseconds of one answer. Raises ValueError if it is not 200."""
        connection = self._connection
        if connection.sent_s and time.perf_counter() - connection.sent_s > RECONNECT_AFTER_S:
            self.close()
            connection = self._connection = self._connect()
        connection.send()
        while not connection.receive():
            pass
        latency_ms = (time.perf_counter() - connection.sent_s) * 1000
        self.answers += 1
        return latency_ms

    def take_turn(self) -> float:
        """Return the median milliseconds of a few answers, fewer if they are slow."""
        ends_s = time.monotonic() + LONGEST_TURN_S
        latencies_ms = [self.ask()]
        while len(latencies_ms) < TURN and time.monotonic() < ends_s:
            latencies_ms.append(self.ask())
        counted = latencies_ms[min(NOT_COUNTED, len(latencies_ms) // 2) :]
        self.latencies_ms += counted
        return statistics.median(counted)

    def warm_up(self) -> None:
        """Send requests until every cache is warm, without measuring."""
        warm_by_s = time.monotonic() + WARM_UP_S
        while self.answers < WARM_UP_REQUESTS and time.monotonic() < warm_by_s:
            self.ask()
        self.answers = 0

    def close(self) -> None:
        """Close the connection."""
        self._connection.socket.close()


class OneClient:
    """The measurements of one client of several targets."""

    def __init__(self, targets: Mapping[str, Target], token: str) -> None:
        self._targets = targets
        self._token = token
        self.p99_ms: dict[str, float] = {}
        self.cpu_ms: dict[str, float] = {}

    def measure(self, seconds: float) -> Rounds:
        """Sample each target's median answer, in ms, for so many seconds each. A round is a turn of each."""
        clients = {name: Client(target, self._token) for name, target in self._targets.items()}
        for client in clients.values():
            client.warm_up()
        used_s = {name: -cpu_seconds(client.target.server.worker_pids()) for name, client in clients.items()}
        samples: dict[str, list[float]] = {name: [] for name in clients}
        names = list(clients)
        ends_s = time.monotonic() + seconds * len(names)
        while len(samples[names[0]]) < FEWEST_TURNS or time.monotonic() < ends_s:
            random.shuffle(names)
            for name in names:
                samples[name].append(clients[name].take_turn())
        for name, client in clients.items():
            with closing(client):
                used_s[name] += cpu_seconds(client.target.server.worker_pids())
                self.cpu_ms[name] = used_s[name] * 1000 / client.answers
                self.p99_ms[name] = sorted(client.latencies_ms)[int(len(client.latencies_ms) * 0.99)]
        return Rounds(samples)
