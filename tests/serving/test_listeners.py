"""Closing the listening sockets of a worker that ends, where that is not possible as intended."""

import os
import resource
import selectors
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.sock import create_sockets

from servease_appt.serving.worker import BufferingWorker


@pytest.fixture
def worker() -> Iterator[BufferingWorker]:
    """A worker that accepts, and was told to end."""
    config = Config()
    config.set("bind", "127.0.0.1:0")
    log = Logger(config)
    sockets = create_sockets(config, log)
    worker = BufferingWorker(1, os.getppid(), sockets, BaseApplication, 30, config, log)
    with closing(worker.tmp):
        worker.poller = selector = selectors.DefaultSelector()
        worker.set_accept_enabled(True)
        worker.alive = False
        try:
            yield worker
        finally:
            for connection in list(worker._connections):
                worker._close(connection)
            selector.close()
            for listener in sockets:
                listener.close()


def test_what_has_begun_is_finished_where_no_file_can_be_opened(worker: BufferingWorker) -> None:
    """Seen to fail: the worker ended with an error, and with it all requests that it served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    (listener,) = worker.sockets
    with socket.create_connection(listener.getsockname()):
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            worker.set_accept_enabled(False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert worker.nr_conns == 0
    assert listener.sock is None


def test_a_worker_may_stop_while_it_has_as_many_connections_as_it_takes(worker: BufferingWorker) -> None:
    """Then it is told twice to accept none: by its limit, and because it ends."""
    (listener,) = worker.sockets
    with socket.create_connection(listener.getsockname()):
        worker.set_accept_enabled(False)
        worker.set_accept_enabled(False)
    assert worker.nr_conns == 1
