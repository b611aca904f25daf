"""Redis Sentinel: the address of the primary, by the newest configuration that any sentinel has.

redis-py takes the answer of the first sentinel, which during a planned failover names the old primary for seconds.
A configuration with a higher epoch was agreed on by a majority of the sentinels, so one answer with it is enough.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from servease_appt.cache.forks import after_fork
from servease_appt.cache.threads import run_in_thread

log = logging.getLogger(__name__)

POLL_S: Final = 0.45
KNOWN_S: Final = 2.0
"""Age in seconds up to which an answer is used."""
MIN_FOR_MAJORITY: Final = 3

Address = tuple[str, int]
_CUT_OFF: Final = "most sentinels can't be reached"
UNKNOWN_PRIMARY: Final = "no sentinel reaches the primary"
OTHER_PRIMARY: Final = "the sentinels name another primary"


class View(NamedTuple):
    """The answers of all sentinels together.

    Attributes:
        primary: the address of the primary; None if no sentinel names a primary that it can reach.
        cut_off: True if most sentinels can't be reached, so that they may have chosen another primary. A sentinel
            that refuses connections does not count: it does not run, and chooses none.
        errors: why sentinels did not answer.
    """

    primary: Address | None
    cut_off: bool
    errors: tuple[str, ...]


class Sentinels(Sentinel):
    """The sentinels of one URL. Thread-safe. `discover_master` is what redis-py's pool calls to connect."""

    def __init__(
        self,
        addresses: Sequence[Address],
        service: str,
        options: dict[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(addresses, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._service = service
        self._clock = clock
        self._view = View(None, cut_off=False, errors=())
        self._viewed_at_s = float("-inf")
        self._asked_at_s = float("-inf")
        self._closed = False
        self._used: Address | None = None
        self._renew()
        after_fork(self, Sentinels._renew)

    def _renew(self) -> None:
        """Make the locks anew: a thread of the parent may have held one at the fork."""
        self._lock = threading.Lock()
        self._use_lock = threading.Lock()
        self._polling = False
        self.on_switch: set[Callable[[], None]] = set()
        """Called when a connection is about to be opened to another server than the one before."""

    def discover_master(self, service_name: str) -> Address:
        """Return the address of the primary. Raises MasterNotFoundError if no sentinel knows it.

        Waits for the sentinels only if no recent answer names it.
        """
        view = self._recent_view()
        primary = view.primary
        if primary is None:
            detail = ", ".join(view.errors) or "it does not answer them"
            raise MasterNotFoundError(f"no sentinel knows the primary of {service_name!r}: {detail}")
        with self._use_lock:
            switched, self._used = self._used not in (None, primary), primary
        if switched:
            for callback in list(self.on_switch):
                callback()
        return primary

    def poll(self) -> None:
        """Ask the sentinels on another thread, unless that was done within `POLL_S`. Never blocks."""
        if not self._polling and self._clock() - self._viewed_at_s > POLL_S:
            self._polling = True  # before the start: the thread may have ended when `run_in_thread` returns
            if not run_in_thread("sentinels", self._poll):
                self._polling = False

    def close(self) -> None:
        """Close the connections to the sentinels, and those of a running poll when it has ended.

        Takes no lock of this object: the end of a client that nobody has closed may come on any thread.
        """
        self._closed = True
        for sentinel in self.sentinels:
            sentinel.connection_pool.disconnect(inuse_connections=False)

    def objection(self, connected_to: Address) -> str | None:
        """Return why the server at `connected_to` may not be the primary, by the last poll; None: it is."""
        if self._view.cut_off:
            return _CUT_OFF
        if self._view.primary not in (None, connected_to):
            return OTHER_PRIMARY
        if self._used not in (None, connected_to):
            return "other connections lead to another server"
        if self._clock() - self._viewed_at_s > KNOWN_S:
            return f"the sentinels were not asked for {KNOWN_S:g} s"
        return None

    def _recent_view(self) -> View:
        called_at_s = self._clock()
        view = self._view
        if view.primary is not None and called_at_s - self._viewed_at_s <= KNOWN_S:
            return view
        return self._view_since(called_at_s)

    def _view_since(self, since_s: float) -> View:
        """Ask the sentinels, unless another thread has begun to do so since then."""
        with self._lock:
            if self._asked_at_s < since_s:
                self._look()
            return self._view

    def objection_now(self, asked: Address) -> str | None:
        """Return why the server at `asked` may not be the primary; None: the sentinels say it is.

        Asks them, unless another thread does so after this call.
        """
        view = self._view_since(self._clock())
        if view.cut_off:
            return _CUT_OFF
        if view.primary is None:
            return UNKNOWN_PRIMARY
        return None if view.primary == asked else OTHER_PRIMARY

    def _poll(self) -> None:
        try:
            with self._lock:
                self._look()
        except RuntimeError:
            log.debug("The interpreter ends: no thread can be started")
        finally:
            self._polling = False
            if self._closed:
                self.close()

    def _look(self) -> None:
        self._asked_at_s = self._clock()
        votes: list[tuple[int, Address]] = []
        errors: list[str] = []
        unreachable = 0
        for answer in self._ask_all():
            if isinstance(answer, Exception):
                errors.append(str(answer))
                unreachable += _is_unreachable(answer)
            elif answer is not None:
                votes.append(answer)
        reached = len(self.sentinels) - unreachable
        cut_off = len(self.sentinels) >= MIN_FOR_MAJORITY and reached <= len(self.sentinels) // 2
        self._view = View(max(votes)[1] if votes else None, cut_off, tuple(errors))
        self._viewed_at_s = self._clock()

    def _ask_all(self) -> list[tuple[int, Address] | Exception | None]:
        """Ask all at the same time, so that those which can't be reached cost one timeout together."""
        if not self.sentinels:
            return []
        with ThreadPoolExecutor(len(self.sentinels), "servease-cache-sentinel") as pool:
            return list(pool.map(self._ask_safely, self.sentinels))

    def _ask_safely(self, sentinel: Redis) -> tuple[int, Address] | Exception | None:
        try:
            return self._ask(sentinel)
        except (RedisError, OSError) as error:
            return error

    def _ask(self, sentinel: Redis) -> tuple[int, Address] | None:
        """Return the epoch and the address that one sentinel has; None if it knows no reachable primary."""
        untyped: Any = sentinel
        try:
            state = untyped.sentinel_master(self._service)
            named = untyped.sentinel_get_master_addr_by_name(self._service)
        except ResponseError:  # it does not know the service
            return None
        address = None if named is None else (named[0].decode(), int(named[1]))
        promoted = address != (state["ip"], state["port"])  # a replica, before the failover has ended
        usable = state["is_master"] and not state["is_sdown"] and not state["is_odown"]
        if address is None or not (promoted or usable):
            return None
        return int(state["config-epoch"]), address


class PrimaryClient(Redis):
    """A client of the primary; closing it closes the connections to the sentinels too."""

    def close(self) -> None:
        """Close all connections that are not in use."""
        super().close()
        sentinels = sentinels_of(self)
        if sentinels is not None:
            sentinels.close()


def sentinels_of(client: object) -> Sentinels | None:
    """Return the sentinels by which a client finds its server; None if it has a fixed address."""
    pool: object = client.connection_pool if isinstance(client, Redis) else None
    found = pool.sentinel_manager if isinstance(pool, SentinelConnectionPool) else None
    return found if isinstance(found, Sentinels) else None


def _is_unreachable(error: Exception) -> bool:
    return not isinstance(error, AuthenticationError) and not isinstance(
        error.__cause__ or error.__context__, ConnectionRefusedError
    )
