"""Single commands and scripts on a redis-py client, for less than its own methods cost.

redis-py's connections and pool are used, so authentication, TLS, Sentinel and reconnection are its own. Left out
are the parts of `Redis.execute_command` that the cache has no use for: its metrics, its response callbacks and its
packer (see `wire.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, ResponseError

from servease_appt.cache.sentinel import Address
from servease_appt.cache.wire import Argument, pack


def send(client: Redis, *arguments: Argument) -> Any:
    """Return the answer to one command. Raises redis-py's errors, after the client's retries. Thread-safe."""
    pool, command = client.connection_pool, [pack(arguments)]
    connection = pool.get_connection()
    try:

        def attempt() -> Any:
            connection.send_packed_command(command)  # type: ignore[no-untyped-call]
            return connection.read_response()

        def disconnect(_error: Exception) -> None:
            connection.disconnect()  # type: ignore[no-untyped-call]

        return connection.retry.call_with_retry(attempt, disconnect)
    finally:
        pool.release(connection)


def send_together(client: Redis, *commands: Sequence[Argument]) -> tuple[Address, list[Any]]:
    """Send commands in one packet on one connection.

    Returns:
        The address of the server, and the answers; an error reply is an answer.
    """
    pool, packed = client.connection_pool, [b"".join(map(pack, commands))]
    connection = pool.get_connection()
    try:

        def attempt() -> list[Any]:
            connection.send_packed_command(packed)  # type: ignore[no-untyped-call]
            return [_reply_or_error(connection) for _ in commands]

        def disconnect(_error: Exception) -> None:
            connection.disconnect()  # type: ignore[no-untyped-call]

        answers = connection.retry.call_with_retry(attempt, disconnect)
        to: Any = connection
        return (to.host, to.port), answers
    finally:
        pool.release(connection)


def _reply_or_error(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


class LuaScript:
    """A Lua script, which the server is sent once and then runs by its hash. Thread-safe."""

    def __init__(self, client: Redis, source: bytes) -> None:
        self._client = client
        self._source = source
        self._hash = hashlib.sha1(source, usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run the script. Raises redis-py's errors."""
        try:
            return send(self._client, "EVALSHA", self._hash, len(keys), *keys, *args)
        except NoScriptError:
            return send(self._client, "EVAL", self._source, len(keys), *keys, *args)

    def replicated(
        self, keys: Sequence[str], args: Sequence[Argument], replicas: int, wait_ms: int
    ) -> tuple[Any, int, Address]:
        """Run the script, and wait until so many replicas have its changes. Raises redis-py's errors.

        Args:
            keys: the script's keys.
            args: the script's arguments.
            replicas: how many; 0: do not wait.
            wait_ms: milliseconds to wait at most.

        Returns:
            The answer, the number of replicas that have the changes (0 if the server refuses to wait), and the
            server's address.
        """
        rest, wait = (len(keys), *keys, *args), ("WAIT", replicas, wait_ms)
        server, (answer, reached) = send_together(self._client, ("EVALSHA", self._hash, *rest), wait)
        if isinstance(answer, NoScriptError):
            server, (answer, reached) = send_together(self._client, ("EVAL", self._source, *rest), wait)
        if isinstance(answer, Exception):
            raise answer
        return answer, reached if isinstance(reached, int) else 0, server
