"""A load generator: N kept-alive connections, each with one request under way at a time, for some seconds.

A script of its own that needs only the standard library, so that it starts quickly and costs little beside the
server:

    load.py PORT CONNECTIONS SECONDS TOKEN PATH...

The paths are requested in turns. The first third of the time does not count. A server with too few answers in the
time gets more time, 20 s at most. Prints one JSON object: requests that count, all requests, the seconds of the
former, and milliseconds of latency as median, low and high quartile and 99th percentile. Exits with 1 if an answer
is not 200.
"""

import json
import selectors
import socket
import statistics
import sys
import time
from itertools import count

FEWEST_ANSWERS = 4
LONGEST_S = 20
_LARGEST_READ = 1 << 18


class Connection:
    """One connection to the server under load."""

    def __init__(self, port: int, requests: list[bytes], first: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._turns = count(first)
        self._received = b""
        self._missing = 0
        self.sent_s = 0.0

    def send(self) -> None:
        """Send the next request."""
        self._received, self._missing = b"", 0
        request = self._requests[next(self._turns) % len(self._requests)]
        self.sent_s = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read available bytes. Returns whether the answer is complete. Raises ValueError if it is not 200."""
        data = self.socket.recv(_LARGEST_READ)
        if not data:
            raise ValueError("the server closed the connection")
        if self._missing:
            self._missing -= len(data)
            return self._missing <= 0
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ValueError(self._received[:500].decode(errors="replace"))
        length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
        self._missing = int(length) - len(body)
        return self._missing <= 0


def main(arguments: list[str]) -> None:
    """Send the load; the arguments are those of the module's docstring."""
    port, connections, seconds, token, *paths = arguments
    requests = [
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        for path in paths
    ]
    selector = selectors.DefaultSelector()
    for first in range(int(connections)):
        connection = Connection(int(port), requests, first)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send()
    began_s = time.perf_counter()
    count_from_s, ends_s = began_s + float(seconds) / 3, began_s + float(seconds)
    latencies: list[float] = []
    answers = 0
    now_s = began_s
    while now_s < ends_s or (len(latencies) < FEWEST_ANSWERS and now_s < began_s + LONGEST_S):
        for key, _ in selector.select(timeout=30):
            connection = key.data
            if connection.receive():
                now_s = time.perf_counter()
                answers += 1
                if connection.sent_s >= count_from_s:
                    latencies.append((now_s - connection.sent_s) * 1000)
                connection.send()
    low, median, high = statistics.quantiles(latencies, n=4)
    print(
        json.dumps(
            {
                "requests": len(latencies),
                "all_requests": answers,
                "seconds": now_s - count_from_s,
                "median": median,
                "low": low,
                "high": high,
                "p99": sorted(latencies)[int(len(latencies) * 0.99)],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
