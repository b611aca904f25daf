"""The proxy between the service and Redis, in a process of its own so that it does not wait for the load's
threads.

    python -m faults.links PORT

prints the port that it listens on, then carries out one command a line and answers each with a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

from servease_appt.testing.fault_proxy import LinkKind, Proxy

DATA, PUBSUB = LinkKind.DATA.value, LinkKind.PUBSUB.value


class Links:
    """The links between the service and the server behind `port`, which can be broken by kind. For one thread."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.links", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._read())

    @property
    def url(self) -> str:
        """Return the URL of database 1 through this proxy."""
        return f"redis://127.0.0.1:{self.port}/1"

    def black_hole(self, *kinds: str) -> None:
        """Keep links open and forward nothing in either direction."""
        for kind in kinds:
            self._order(kind=kind, swallow_to_server=True, swallow_to_client=True)

    def lose_answers(self, kind: str) -> None:
        """Drop what the server sends."""
        self._order(kind=kind, swallow_to_client=True)

    def delay(self, kind: str, delay_s: float) -> None:
        """Delay each chunk, in each direction."""
        self._order(kind=kind, delay_s=delay_s)

    def refuse(self, *kinds: str) -> None:
        """Close new links of these kinds as soon as their kind is known."""
        for kind in kinds:
            self._order(kind=kind, refuse=True)

    def reset(self, kind: str) -> None:
        """End the open links with an RST."""
        self._order(kind=kind, reset=True)

    def strand(self, kind: str) -> None:
        """Have the open links carry nothing from now on, without a sign of it; new links work."""
        self._order(kind=kind, strand=True)

    def heal(self) -> None:
        """Let new links work again. Links that lost bytes stay broken until a side closes them."""
        self._order(heal=True)

    def close(self) -> None:
        """Stop the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _order(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy has ended")
        return line


def main(port: int) -> None:
    """Serve until the end of standard input."""
    sys.setswitchinterval(0.0005)
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # or a busy machine holds all links up, which is not the fault that is wanted
    with Proxy(port) as proxy:
        print(proxy.port, flush=True)
        for line in sys.stdin:
            _carry_out(proxy, json.loads(line))
            print("done", flush=True)


def _carry_out(proxy: Proxy, order: dict[str, Any]) -> None:
    if order.pop("heal", False):
        for rules in proxy.rules.values():
            rules.heal()
        return
    kind = LinkKind(order.pop("kind"))
    if order.pop("reset", False):
        proxy.reset(kind)
    if order.pop("strand", False):
        proxy.strand(kind)
    for name, value in order.items():
        setattr(proxy.rules[kind], name, value)


if __name__ == "__main__":
    main(int(sys.argv[1]))
