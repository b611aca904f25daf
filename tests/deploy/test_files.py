"""The files for running it elsewhere name what exists, and agree with the service's own limits."""

import re
from pathlib import Path

import pytest

from servease_appt.api.parsing import LARGEST_BODY
from servease_appt.serving.worker import BufferingWorker

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = ("deploy/nginx.conf", "deploy/nginx-replicas.conf")


@pytest.mark.parametrize("file", CONFIGURATIONS)
def test_the_proxy_has_the_deadlines_of_the_service(file: str) -> None:
    """A client is told the same by either."""
    text = (ROOT / file).read_text()
    for name, limit_s in (
        ("client_header_timeout", BufferingWorker.read_timeout_s),
        ("client_body_timeout", BufferingWorker.read_timeout_s),
        ("send_timeout", BufferingWorker.write_timeout_s),
    ):
        assert f"{name} {limit_s:.0f}s;" in text
    assert f"client_max_body_size {LARGEST_BODY // 1024**2}m;" in text


@pytest.mark.parametrize("file", CONFIGURATIONS)
def test_every_error_of_the_proxy_is_json(file: str) -> None:
    """Whatever nginx answers itself has a body that a client of the API can read."""
    text = (ROOT / file).read_text()
    answered = re.findall(r"return (\d+) '([^']*)'", text)
    assert {status for status, _ in answered} >= {"408", "413", "429", "503"}
    assert all(re.fullmatch(r'\{"detail": "[^"]+\."\}', body) for _, body in answered)


def test_both_configurations_differ_in_their_servers_alone() -> None:
    """What is mended in one is mended in the other."""
    one, three = (
        re.sub(r"^ +(least_conn|server [\w-]+:8005 .*);\n", "", (ROOT / file).read_text(), flags=re.MULTILINE)
        for file in CONFIGURATIONS
    )
    start = "worker_processes auto;"
    assert one.partition(start)[2] == three.partition(start)[2] != ""
