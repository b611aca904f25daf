"""Load that does not wait for answers, in a process of its own: requests are sent when they are due.

    python -m faults.open_loop PORT TOKEN PATH RATE SECONDS

prints one JSON object, see `Sent`. A client that waits for its answer before it asks again would slow down with
the server, and so would never ask for more than can be served.
"""

from __future__ import annotations

import json
import random
import selectors
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field

from faults.http_client import Answer, Slot

ANSWER_LIMIT_S = 10.0
MOST_CONNECTIONS = 900
"""As many as a proxy in front of two workers may keep open; each worker accepts 1,000."""


@dataclass(slots=True)
class Sent:
    """What became of the requests.

    Attributes:
        took_ms: milliseconds of each request that was answered with 200, from when it was due to its answer.
        refused: number of answers with 503.
        refused_ms: milliseconds of each of these.
        held_back: number of requests that were not sent, since all connections were waiting for answers.
        without_retry_after: number of these without `Retry-After`.
        other: number of all other answers, by status, or by error if there was none.
    """

    requests: int = 0
    seconds: float = 0.0
    took_ms: list[float] = field(default_factory=list)
    refused: int = 0
    refused_ms: list[float] = field(default_factory=list)
    held_back: int = 0
    without_retry_after: int = 0
    other: dict[str, int] = field(default_factory=dict)

    def note(self, answer: Answer, due_s: float) -> None:
        """Count one answer."""
        took_ms = (answer.t_return / 1e9 - due_s) * 1000
        if answer.status == 200:
            self.took_ms.append(took_ms)
        elif answer.status == 503:
            self.refused += 1
            self.refused_ms.append(took_ms)
            self.without_retry_after += "retry-after" not in answer.headers
        else:
            what = str(answer.status) if answer.status else answer.error
            self.other[what] = self.other.get(what, 0) + 1


def send(port: int, token: str, path: str, rate: float, seconds: float) -> Sent:
    """Run the generator in another process and wait for its end."""
    command = [sys.executable, "-m", "faults.open_loop", str(port), token, path, str(rate), str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Sent(**json.loads(done.stdout))


class OpenLoop:
    """Sends GET requests at random moments, `rate` a second on average, over as many connections as that takes."""

    def __init__(self, port: int, token: str, path: str, rate: float) -> None:
        self._port = port
        self._token = token
        self._path = path
        self._rate = rate
        self._free: list[Slot] = []
        self._due_s: dict[Slot, float] = {}
        self._selector = selectors.DefaultSelector()
        self._sent = Sent()

    def run(self, seconds: float) -> Sent:
        """Send for so long, then wait for the answers."""
        began_s = next_s = time.monotonic()
        end_s = began_s + seconds
        while time.monotonic() < end_s:
            while next_s <= min(time.monotonic(), end_s):
                self._start(next_s)
                next_s += random.expovariate(self._rate)
            self._receive(max(0.0, next_s - time.monotonic()))
        self._sent.seconds = time.monotonic() - began_s
        limit_s = time.monotonic() + ANSWER_LIMIT_S
        while self._due_s and time.monotonic() < limit_s:
            self._receive(0.1)
        for slot in list(self._due_s):
            self._selector.unregister(slot)
            self._finish(slot, slot.give_up())
        for slot in self._free:
            slot.close()
        return self._sent

    def _start(self, due_s: float) -> None:
        self._sent.requests += 1
        if len(self._due_s) == MOST_CONNECTIONS:
            self._sent.held_back += 1
            return
        slot = self._free.pop() if self._free else Slot(self._port, self._token)
        self._due_s[slot] = due_s
        failed = slot.start("GET", self._path)
        if failed is None:
            self._selector.register(slot, selectors.EVENT_READ)
        else:
            self._finish(slot, failed)

    def _receive(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            slot = key.fileobj
            assert isinstance(slot, Slot)
            self._selector.unregister(slot)  # receiving may end the connection, or open another
            answer = slot.receive()
            if answer is None:
                self._selector.register(slot, selectors.EVENT_READ)
            else:
                self._finish(slot, answer)

    def _finish(self, slot: Slot, answer: Answer) -> None:
        self._sent.note(answer, self._due_s.pop(slot))
        self._free.append(slot)


def main(port: str, token: str, path: str, rate: str, seconds: str) -> None:
    """Print what became of the requests."""
    print(json.dumps(asdict(OpenLoop(int(port), token, path, float(rate)).run(float(seconds)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
