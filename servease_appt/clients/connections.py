"""HTTP connections on which a whole answer, not only each read of it, has to arrive in time.

A timeout in requests limits one read from the socket: a server that sends a byte now and then keeps its caller for
as long as it likes. Here the reader of an answer has a deadline, and each read gets the time left until then.
"""

import http.client
import io
import socket
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import urllib3
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class _UntilDeadline(io.RawIOBase):
    """Reads from a socket until a moment of `time.monotonic()`, then raises TimeoutError."""

    def __init__(self, reader: io.RawIOBase, connection: socket.socket, deadline: float) -> None:
        self._reader = reader
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._connection.settimeout(left)
        return self._reader.readinto(buffer)

    def close(self) -> None:
        self._reader.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that has to be complete within the timeout that its socket had when it began."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        limit_s = sock.gettimeout()
        if limit_s is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_UntilDeadline(raw, sock, time.monotonic() + limit_s))


class Reused(http.client.RemoteDisconnected):
    """The server had closed a kept-alive connection before it answered anything."""


class _Deadline:
    """A mixin for urllib3's connections: connecting and the answer have deadlines."""

    response_class: Any = _Answer
    _answers = 0
    _dns_host: Any
    port: Any
    timeout: Any

    def _new_conn(self) -> socket.socket:
        # urllib3 gives each address of a host all of the time; here they share it.
        host, limit_s = self._dns_host, self.timeout
        deadline = time.monotonic() + limit_s
        failure: Exception = OSError("the host has no address")
        try:
            for *_, address in socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM):
                self._dns_host, self.timeout = str(address[0]), max(deadline - time.monotonic(), 0.001)
                try:
                    connection: socket.socket = super()._new_conn()  # type: ignore[misc] # urllib3's class has it
                except urllib3.exceptions.ConnectTimeoutError as error:
                    failure = error
                else:
                    return connection
        finally:
            self._dns_host, self.timeout = host, limit_s
        raise failure

    def getresponse(self) -> Any:
        try:
            answer = super().getresponse()  # type: ignore[misc] # urllib3's class has it
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            if self._answers:
                raise Reused(str(error)) from error
            raise
        self._answers += 1
        return answer


class _Connection(_Deadline, HTTPConnection):
    pass


class _TlsConnection(_Deadline, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class PooledAdapter(HTTPAdapter):
    """requests' transport adapter for one base URL, over connections with deadlines.

    Left out are cookies, proxies, headers of answers, and looking up the connection pool for each call.

    Args:
        base_url: scheme and host of every request that will be sent.
        pool_size: connections kept open. More calls than that at once work too, on connections of their own.
    """

    def __init__(self, base_url: str, pool_size: int) -> None:
        super().__init__(pool_connections=1, pool_maxsize=pool_size)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        probe = PreparedRequest()
        probe.prepare(method="GET", url=base_url)
        self._pool = super().get_connection_with_tls_context(probe, verify=True)

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def request_url(self, request: PreparedRequest, _proxies: Any) -> str:
        return request.path_url

    def build_response(self, req: PreparedRequest, resp: urllib3.BaseHTTPResponse) -> Response:
        # Without headers no answer is a redirect for requests, which would read the body of one to its end.
        response = Response()
        response.status_code = resp.status
        response.raw = resp
        response.url = req.url or ""
        response.request = req
        return response

    def close(self) -> None:
        """Close the idle connections now, and those in use when their call ends."""
        self._pool.close()


class OneServiceSession(Session):
    """A session with one service. It remembers nothing of one call for the next, so threads may share it.

    It follows no redirect and keeps no cookie; it reads neither proxies nor `.netrc` from the environment.
    """

    def __init__(self, base_url: str, pool_size: int) -> None:
        super().__init__()
        self.trust_env = False
        self.headers = CaseInsensitiveDict(
            {
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "servease-appointment-service",
            }
        )
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self.adapters.clear()
        self.mount(base_url, PooledAdapter(base_url, pool_size))
