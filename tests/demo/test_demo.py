"""`python -m servease_appt.demo` as somebody runs it."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import jwt
import pytest
import requests

from servease_appt.demo.run import usable_ports
from servease_appt.testing.processes import ProcessError, wait_until
from tests.support.processes import alive, descendants

ROOT = Path(__file__).resolve().parents[2]
ANY_PORTS = ["--port", "0", "--customer-port", "0", "--employee-port", "0", "--vehicle-port", "0"]
# The demo judges the times that it measures, which coverage would spoil.
UNMEASURED = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


class Demo:
    """A running demo and what it has printed so far."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "servease_appt.demo", *ANY_PORTS],
                cwd=ROOT,
                env=UNMEASURED,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def printed(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        seen = wait_until(
            lambda: text in self.printed() or self.process.poll() is not None, timeout_s=60, interval_s=0.05
        )
        assert seen, self.printed()
        assert text in self.printed(), self.printed()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path / "demo.log")
    yield demo
    demo.process.kill()
    demo.process.wait()


def own_directory(demo: Demo) -> Path:
    return ROOT / ".demo" / str(demo.process.pid)


def test_check() -> None:
    """`--check` finds all that it printed to be so: 60 references, what they cost cold and warm, and says so.

    It compares times with that of an upstream call, which is longer here: other tests need the processors too.
    """
    demo = subprocess.run(
        [sys.executable, "-m", "servease_appt.demo", "--check", "--delay", "200", *ANY_PORTS],
        cwd=ROOT,
        env=UNMEASURED,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "20 appointments with 60 distinct" in demo.stdout
    assert re.search(r"names came from +upstream=60 +l2=60 +l1=60", demo.stdout)
    assert re.search(r"upstream calls +60 +0 +0\n", demo.stdout)
    assert re.search(r"Redis commands +\d+ +1 +0\n", demo.stdout)
    assert demo.stdout.count("\nok ") == 14
    assert "FAIL" not in demo.stdout


def test_serving(demo: Demo) -> None:
    """What it prints can be pasted; Ctrl-C ends it and all that it started, and removes its files."""
    demo.wait_for("Serving until Ctrl-C")
    printed = demo.printed()
    assert "\neyJ" not in printed.replace(" ", "\n").partition("The API to try out")[0]  # tokens are in files
    if shutil.which("curl"):
        rename = re.search(r"^names\(\) .*?(?=^# Counts)", printed, re.MULTILINE | re.DOTALL)
        assert rename is not None
        shown = subprocess.run(
            ["/bin/sh", "-c", rename[0]], capture_output=True, text=True, check=True
        ).stdout
        before, still, invalidated, after = (line.strip() for line in shown.splitlines())
        assert before == still
        assert before.startswith('8 "customer_name":')
        assert (invalidated, after) == ('{"invalidated":1}', '8 "customer_name":"Somebody Else"')
    lines = re.findall(r"^curl .*$", printed, re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        answer = paste(line)
        assert answer.ok, (line, answer.text)
        assert r"-w '\n'" in line or line.endswith("> /dev/null")
    operators = re.search(
        r"^\. \S+/environment\n.*explain customer .*\n.*cache doctor$", printed, re.MULTILINE
    )
    assert operators is not None
    shell = ["/bin/sh", "-c", operators[0]]
    doctor = subprocess.run(shell, cwd=ROOT, env=UNMEASURED, capture_output=True, text=True, check=False)
    assert "2 listening, 2 registered, 2 answered." in doctor.stdout, doctor.stderr
    assert doctor.stdout.startswith("appointment_service:customer_")
    code = re.search(r"^  http\S+#code=(\S+)$", printed, re.MULTILINE)
    assert code is not None
    left_s = jwt.decode(code[1], options={"verify_signature": False})["exp"] - time.time()
    assert left_s > 20 * 24 * 3600  # longer than anybody leaves a demo running
    docs = re.search(r"http://\S+/docs", printed)
    assert docs is not None
    assert requests.get(docs[0], timeout=10).ok
    pids = descendants(demo.process.pid)
    assert len(pids) > 10
    assert own_directory(demo).exists()

    demo.process.send_signal(signal.SIGINT)

    assert demo.process.wait(30) == 0
    assert "nothing is left running" in demo.printed()
    assert not alive(pids)
    assert not own_directory(demo).exists()


def paste(line: str) -> requests.Response:
    """Do what a shell with curl would do with this line."""
    words = shlex.split(re.sub(r"\$\(cat (.+?)\)", lambda match: Path(match[1]).read_text(), line))
    *options, url = [word for word in words[1:] if word not in {"-s", "-i", ">", "/dev/null"}]
    arguments = dict(pairwise(options))
    headers = dict(word.split(": ", 1) for before, word in pairwise(options) if before == "-H")
    body = arguments.get("-d")
    return requests.request("GET" if body is None else "POST", url, data=body, headers=headers, timeout=10)


def test_stopping_while_it_starts(demo: Demo) -> None:
    """SIGTERM half-way through the start ends what is already running."""
    demo.wait_for("Valkey")
    pids = descendants(demo.process.pid)

    demo.process.send_signal(signal.SIGTERM)

    assert demo.process.wait(30) == 0
    assert not alive(pids)
    assert not own_directory(demo).exists()


def test_killing(demo: Demo) -> None:
    """Nothing outlives a demo that was killed."""
    demo.wait_for("gunicorn with 2 workers")
    pids = descendants(demo.process.pid)
    assert len(pids) > 10

    demo.process.kill()

    assert wait_until(lambda: not alive(pids), timeout_s=30)


def test_a_taken_port() -> None:
    """A taken port is one message with the port and the option that picks another, and nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = subprocess.run(
            [sys.executable, "-m", "servease_appt.demo", *ANY_PORTS, "--port", str(port)],
            cwd=ROOT,
            env=UNMEASURED,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    assert demo.returncode == 1
    assert f"port {port}, for the appointment service" in demo.stderr
    assert "--port " in demo.stderr
    assert "Traceback" not in demo.stderr
    assert demo.stdout == ""


@pytest.mark.parametrize("name", ["port", "customer_port", "employee_port", "vehicle_port"])
def test_each_port_has_its_option(name: str) -> None:
    """The message names the option of the port that is taken; an impossible port is a message too."""
    option = "--" + name.replace("_", "-")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ProcessError, match=rf"(?s)port {port},.*{option} "):
            usable_ports({name: port})
    with pytest.raises(ProcessError, match=option):
        usable_ports({name: 70_000})
    assert usable_ports({name: 0})[name] > 0


def test_all_taken_ports_are_named_at_once() -> None:
    """One attempt is enough to learn what else to choose; ports that are free keep out of it."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        taken = one.getsockname()[1], two.getsockname()[1]
        with pytest.raises(ProcessError) as refused:
            usable_ports({"port": taken[0], "customer_port": 0, "vehicle_port": taken[1]})

    text = str(refused.value)
    assert re.fullmatch(
        "a port can't be used\n"
        rf"  port {taken[0]}, for the appointment service: Address already in use\n"
        rf"  port {taken[1]}, for the fake vehicle service: Address already in use\n"
        r"Choose another with: make demo ARGS='--port \d+ --vehicle-port \d+'",
        text,
    )
