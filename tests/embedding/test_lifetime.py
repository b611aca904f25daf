"""Parts end with their application, whether or not somebody has closed them."""

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from servease_appt import ServEase, get_customer_cached
from servease_appt.app import create_app
from servease_appt.settings import Settings
from servease_appt.testing.processes import wait_until
from tests.embedding.conftest import HEALTH, PREFIX
from tests.support.dataset import new_id

APPLICATIONS = 20


def _held() -> tuple[int, int]:
    """Threads and descriptors of this process."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def _hosted(config: dict[str, Any]) -> Flask:
    host = Flask("host")
    host.config.update(config)
    ServEase().init_app(host, url_prefix=PREFIX)
    return host


def _standalone(config: dict[str, Any]) -> Flask:
    ours = {
        name.removeprefix("SERVEASE_"): value
        for name, value in config.items()
        if name.startswith("SERVEASE_")
    }
    return create_app(Settings.from_mapping(ours))


@pytest.mark.parametrize("make", [_hosted, _standalone])
def test_what_a_collected_application_held_is_closed(
    make: Callable[[dict[str, Any]], Flask], config: dict[str, Any]
) -> None:
    """As many threads and descriptors as before, though no test has closed its application."""

    def use() -> "weakref.ref[Flask]":
        app = make(config)
        with app.app_context():
            get_customer_cached(new_id())
        client = app.test_client()
        client.get(f"{PREFIX}/health/ready/")
        client.get("/health/ready/")
        return weakref.ref(app)

    at_first = threading.active_count()
    use()  # makes what belongs to the process: the thread that watches PostgreSQL's deadlines
    gc.collect()
    assert wait_until(lambda: threading.active_count() <= at_first + 1, timeout_s=30)
    before = _held()

    applications = [use() for _ in range(APPLICATIONS)]
    gc.collect()

    assert [app for app in applications if app() is not None] == []
    settled = wait_until(
        lambda: all(now <= then for now, then in zip(_held(), before, strict=True)), timeout_s=30
    )
    assert settled, (before, _held())


def test_a_collection_in_the_middle_of_a_thread_start_does_not_hang(config: dict[str, Any]) -> None:
    """It may come while this very thread holds the lock that starting a thread takes."""
    finished = threading.Event()

    def run() -> None:
        host = _hosted(config)
        host.test_client().get(HEALTH)
        del host
        with threading._active_limbo_lock:  # type: ignore[attr-defined]
            gc.collect()
        finished.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert finished.wait(20)
    thread.join()
