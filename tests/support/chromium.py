"""A real browser, controlled over a pipe, for tests of pages with scripts.

Without an installed Chromium the tests that need it are skipped; nothing is downloaded.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_TIMEOUT_S = 30.0
# The browser's ends of the pipes have to be its descriptors 3 and 4.
_LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, end in enumerate(ends, 3):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
)


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Chromium:
    """One tab of a headless browser with a profile of its own. A context manager, for one thread.

    Attributes:
        requests: the addresses of all requests.
        complaints: the warnings and errors of the browser's console, with those of the Content-Security-Policy.
    """

    def __init__(self, program: str, profile: Path) -> None:
        self._command = [
            program,
            *_FLAGS,
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
            "about:blank",
        ]
        self._number = 0
        self._session: str | None = None
        self._unread = b""
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        from_us, self._to_it = os.pipe()
        self._from_it, to_us = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(from_us), str(to_us), *self._command],
            pass_fds=(from_us, to_us),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(from_us)
        os.close(to_us)
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._to_it)  # without its master it ends
        os.close(self._from_it)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            order["sessionId"] = self._session
        os.write(self._to_it, json.dumps(order).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def open(self, address: str) -> None:
        """Go to an address and wait until the page is loaded."""
        self.send("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Return the awaited value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout_s: float = _TIMEOUT_S) -> None:
        """Wait until a JavaScript expression is true. Raises AssertionError after the time limit."""
        deadline_s = time.monotonic() + timeout_s
        while not self.evaluate(expression):
            if time.monotonic() > deadline_s:
                shown = self.evaluate("document.body?.innerText")
                raise AssertionError(f"{expression} is not so; {self.complaints=}; the page shows:\n{shown}")
            self._listen(0.02)

    def look(self, *, width: int, height: int, dark: bool) -> None:
        """Set the size and colour scheme of the page."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **screen)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def picture(self, file: Path) -> None:
        """Write what the window shows as a PNG."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def _listen(self, for_s: float) -> None:
        """Read the browser's messages."""
        if select.select([self._from_it], [], [], for_s)[0]:
            self._next()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            assert select.select([self._from_it], [], [], _TIMEOUT_S)[0], "the browser does not answer"
            part = os.read(self._from_it, 1 << 20)
            assert part, "the browser has ended"
            self._unread += part
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        note = _NOTES.get(message.get("method", ""))
        if note is not None:
            note(self, message["params"])
        return message


def _asked(browser: Chromium, told: dict[str, Any]) -> None:
    browser.requests.append(told["request"]["url"])


def _complained(browser: Chromium, told: dict[str, Any]) -> None:
    if told["entry"]["level"] in ("warning", "error"):
        browser.complaints.append(told["entry"]["text"])


def _threw(browser: Chromium, told: dict[str, Any]) -> None:
    browser.complaints.append(str(told["exceptionDetails"]))


_NOTES: dict[str, Callable[[Chromium, dict[str, Any]], None]] = {
    "Network.requestWillBeSent": _asked,
    "Log.entryAdded": _complained,
    "Runtime.exceptionThrown": _threw,
}
