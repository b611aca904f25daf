"""`/metrics` in a host: off unless asked for, the service's series alone, right across workers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.embedding.conftest import PREFIX

METRICS = f"{PREFIX}/metrics"
WORKER = """
import json, os, sys
from flask import Flask
from prometheus_client import Counter
from servease_appt import ServEase

Counter("shop_orders", "Orders of the host's").inc(5)
host = Flask("host")
host.config.update(json.loads(sys.stdin.read()), SERVEASE_METRICS_ENABLED=True)
ServEase().init_app(host, url_prefix="/garage/api")
client = host.test_client()
for _ in range(3):
    client.get("/garage/api/health/")
print(client.get("/garage/api/metrics").text)
host.extensions["servease"].close()
"""


def test_it_is_off_unless_asked_for(embedded: Callable[..., Flask]) -> None:
    """A host that shows its own metrics shows ours only when it says so."""
    assert embedded().test_client().get(METRICS).status_code == 404


def test_a_host_may_set_a_token_for_them(embedded: Callable[..., Flask]) -> None:
    """The setting has the prefix that all settings have in a host."""
    host = embedded(SERVEASE_METRICS_ENABLED=True, SERVEASE_METRICS_TOKEN="scrape-me-0123456789")
    client = host.test_client()
    assert client.get(METRICS).status_code == 401
    bearer = {"Authorization": "Bearer scrape-me-0123456789"}
    assert client.get(METRICS, headers=bearer).status_code == 200


def test_a_worker_that_can_only_show_its_own_says_so(
    embedded: Callable[..., Flask], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, at the start, with the name of what is missing."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)

    host = embedded(SERVEASE_METRICS_ENABLED=True)

    assert host.test_client().get(METRICS).status_code == 200
    assert "PROMETHEUS_MULTIPROC_DIR is not set" in caplog.text


def test_all_workers_are_added_up_and_nothing_of_the_host_is_shown(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """Two workers, one after the other: the second shows what both have counted."""
    shown = ""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", WORKER],
            input=json.dumps(config),
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        shown = done.stdout

    names = {
        line.split("{")[0].split(" ")[0] for line in shown.splitlines() if line and not line.startswith("#")
    }
    assert all(name.startswith("servease_") for name in names), names
    counted = [
        line for line in shown.splitlines() if "request_duration_seconds_count" in line and "healthy" in line
    ]
    assert [line.rpartition(" ")[2] for line in counted] == ["6.0"]
    assert "orders" not in shown
