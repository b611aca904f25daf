"""A gunicorn worker whose threads only ever see whole requests.

gunicorn's gthread worker reads the request and writes the answer on the thread that serves it, without a limit
after the first byte: as many clients as there are threads can stop a worker by sending one byte each. Here the
event loop collects a request until all of it has arrived, then a thread serves it from memory, and what the
client does not take at once is written by the event loop again. That is what a buffering proxy does, and what
waitress does for its threads. Deadlines are counted for each request, so that a byte now and then gains nothing.

The number of requests in the queue is limited, and so is the time one spends there: more than that is answered
with 503 and Retry-After, since the client has other plans by then. Health and metrics have threads of their own.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from io import BytesIO
from typing import Any, Final

from gunicorn.http.body import Body
from gunicorn.http.errors import (
    ChunkMissingTerminator,
    NoMoreData,
    ParseException,
)
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker

from servease_appt.serving.connection import Connection, State
from servease_appt.serving.framing import Progress
from servease_appt.serving.gunicorn_errors import error_bytes

LINGER_S: Final = 2.0
PROBE_THREADS: Final = 2
PROBES: Final = (b"/health", b"/health/ready", b"/metrics")
RETRY_AFTER_S: Final = 1
_REPORT_EVERY_S: Final = 60.0
_RECEIVE_BYTES: Final = 65536


class Refusal(StrEnum):
    """Why a request ended before the application saw it."""

    TIMEOUT = "timeout"
    INCOMPLETE = "incomplete"
    """The client closed before the request was complete, or its headers were too large."""
    QUEUE_FULL = "queue_full"
    QUEUED_TOO_LONG = "queued_too_long"


class BufferingWorker(ThreadWorker):  # type: ignore[misc] # gunicorn is not typed
    """See the module. The event loop is one thread; everything but `handle` and `handle_request` runs on it.

    Attributes:
        read_timeout_s: seconds from a request's first byte to its last.
        write_timeout_s: seconds from the end of a request's work until the client has taken the whole answer.
        max_queued_s: seconds that a request may wait for a thread.
        requests_per_thread: how many requests may be queued or served at once, for each thread.
        on_refused: called with a `Refusal` on the event loop.
    """

    read_timeout_s = 8.0
    write_timeout_s = 8.0
    max_queued_s = 1.0
    requests_per_thread = 16

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections: set[Connection] = set()
        self._in_flight = 0
        self._refusals: Counter[str] = Counter()
        self._reported_at_s = float("-inf")
        self.on_refused: Callable[[str], None] = lambda _reason: None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse TLS settings: the event loop reads plain bytes."""
        super().check_config(cfg, log)
        if cfg.is_ssl:
            raise RuntimeError("certfile and keyfile can't be used: let a proxy in front of gunicorn end TLS")

    def init_process(self) -> None:
        """Add the threads for probes, which no other request can keep busy."""
        self._probes = ThreadPoolExecutor(PROBE_THREADS, "servease-probe")
        super().init_process()

    # Connections, on the event loop

    def accept(self, listener: Any) -> None:
        """Accept a connection and wait for its first request."""
        try:
            client_sock, client_address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                return
            raise
        self.nr_conns += 1
        connection = Connection(self.cfg, client_sock, client_address, listener.getsockname())
        self._connections.add(connection)
        self._await_request(connection)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting connections. A worker that ends accepts what waits, and closes its listeners.

        While it had them open, the system would go on taking connections, which nobody answers and which are reset
        in the end. Refused at once, a proxy asks another worker.
        """
        super().set_accept_enabled(enabled)
        if self.alive or enabled:
            return
        for listener in self.sockets:
            if listener.sock is None:  # closed before: the worker had as many connections as it takes
                continue
            # Too many open files, for example, must not end what has begun.
            with contextlib.suppress(OSError):
                accepted_before = -1
                while self.nr_conns != accepted_before:
                    accepted_before = self.nr_conns
                    self.accept(listener)
            listener.close()

    def _await_request(self, connection: Connection) -> None:
        connection.state = State.IDLE
        idle_s = self.cfg.keepalive if self.alive else STOP_KEEPALIVE_LINGER
        connection.deadline_s = time.monotonic() + idle_s
        self.poller.register(connection.sock, selectors.EVENT_READ, partial(self._read, connection))
        if len(connection.frame):  # the next request came behind the last one
            self._take_in(connection, b"")

    def _read(self, connection: Connection, _fileobj: object) -> None:
        try:
            data = connection.sock.raw.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        if data:
            self._take_in(connection, data)
        elif len(connection.frame):
            self._refuse(connection, Refusal.INCOMPLETE, 400, "Bad Request")
        else:
            self._close(connection)

    def _take_in(self, connection: Connection, data: bytes) -> None:
        if connection.state is State.IDLE:
            connection.state = State.READING
            connection.deadline_s = time.monotonic() + self.read_timeout_s
        progress = connection.frame.feed(data)
        if progress is Progress.COMPLETE:
            self._dispatch(connection)
        elif progress is Progress.HEAD_TOO_LARGE:
            self._refuse(connection, Refusal.INCOMPLETE, 431, "Request Header Fields Too Large")
        elif connection.frame.wants_continue:
            connection.invite_body()

    def _dispatch(self, connection: Connection) -> None:
        """Queue a complete request for a thread, or refuse it where too many are queued."""
        is_probe = connection.frame.path.rstrip(b"/").endswith(PROBES)
        if not is_probe and self._in_flight >= self.requests_per_thread * self.cfg.threads:
            self._refuse(connection, Refusal.QUEUE_FULL, 503, "Service Unavailable")
            return
        self.poller.unregister(connection.sock)
        connection.state, connection.deadline_s = State.SERVING, float("inf")
        connection.queued_at_s = float("inf") if is_probe else time.monotonic()
        connection.next_frame()
        self._in_flight += not is_probe
        served: Future[bool] = (self._probes if is_probe else self.tpool).submit(self.handle, connection)
        served.add_done_callback(
            lambda future: self.method_queue.defer(self._finish, connection, future, is_probe)
        )

    def _finish(self, connection: Connection, served: Future[bool], is_probe: bool) -> None:
        self._in_flight -= not is_probe
        try:
            keep = served.result()
        except Exception:
            self.log.exception("A request thread failed")
            keep = False
        if connection.sock.unsent:
            connection.state, connection.deadline_s = State.WRITING, time.monotonic() + self.write_timeout_s
            self.poller.register(
                connection.sock, selectors.EVENT_WRITE, partial(self._write, connection, keep)
            )
        else:
            self._answered(connection, keep)

    def _write(self, connection: Connection, keep: bool, _fileobj: object) -> None:
        try:
            done = connection.sock.flush()
        except OSError:
            self._close(connection)
            return
        if done:
            self.poller.unregister(connection.sock)
            self._answered(connection, keep)

    def _answered(self, connection: Connection, keep: bool) -> None:
        # A stopping worker, too, keeps what it has announced to keep: the next request may be on its way.
        if keep:
            self._await_request(connection)
        else:
            self._linger(connection)

    def _refuse(self, connection: Connection, reason: Refusal, status: int, phrase: str) -> None:
        """Answer from the event loop, without a thread, and end the connection."""
        self._count_refusal(reason)
        self.poller.unregister(connection.sock)
        with contextlib.suppress(OSError):
            connection.sock.sendall(error_bytes(status, phrase, RETRY_AFTER_S if status == 503 else None))
        self._linger(connection)

    def _linger(self, connection: Connection) -> None:
        """Half-close, and wait for the client to do the same.

        Closing at once could destroy the answer on its way (RFC 9112, section 9.6).
        """
        try:
            connection.sock.shutdown(socket.SHUT_WR)
            self.poller.register(connection.sock, selectors.EVENT_READ, partial(self._drain, connection))
        except OSError:
            self._close(connection)
            return
        connection.state, connection.deadline_s = State.LINGERING, time.monotonic() + LINGER_S

    def _drain(self, connection: Connection, _fileobj: object) -> None:
        try:
            if connection.sock.raw.recv(_RECEIVE_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(connection.sock)
        self._connections.discard(connection)
        self.nr_conns -= 1
        connection.close()

    def murder_pending(self) -> None:
        """End what is past its deadline. gunicorn's loop calls this at least once a second."""
        now = time.monotonic()
        for connection in [c for c in self._connections if c.deadline_s < now]:
            if connection.state is State.READING:
                self._refuse(connection, Refusal.TIMEOUT, 408, "Request Timeout")
            else:
                self._close(connection)
        self._report_refusals(now)

    def _cap_keepalive(self, deadline: float) -> None:
        """Let idle connections end soon: the worker is stopping."""
        for connection in self._connections:
            if connection.state is State.IDLE:
                connection.deadline_s = min(connection.deadline_s, deadline)

    def _count_refusal(self, reason: Refusal) -> None:
        self._refusals[reason] += 1
        self.on_refused(reason)

    def _report_refusals(self, now: float) -> None:
        if self._refusals and now - self._reported_at_s > _REPORT_EVERY_S:
            self._reported_at_s = now
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(self._refusals.items()))
            self.log.warning("Requests refused before they were served: %s", counts)
            self._refusals.clear()

    # Requests, on a thread

    def handle(self, conn: Connection) -> bool:
        """Serve one request, unless it has waited too long. Returns whether the connection may be kept."""
        if time.monotonic() - conn.queued_at_s > self.max_queued_s:
            self.method_queue.defer(self._count_refusal, Refusal.QUEUED_TOO_LONG)
            with contextlib.suppress(OSError):
                conn.sock.sendall(error_bytes(503, "Service Unavailable", RETRY_AFTER_S))
            return False
        return bool(super().handle(conn))

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """Check the body before the application sees the request, so that a malformed one changes nothing.

        Raises ParseException for a malformed body, which gunicorn answers with 400.
        """
        payload = bytearray()
        try:
            while piece := req.body.read(_RECEIVE_BYTES):
                payload += piece
        except (NoMoreData, ParseException) as error:
            if not conn.body_is_cut:
                raise ChunkMissingTerminator(b"") if isinstance(error, NoMoreData) else error from error
        if conn.body_is_cut:
            req.force_close()
        req.body = Body(BytesIO(payload))
        return bool(super().handle_request(req, conn))
