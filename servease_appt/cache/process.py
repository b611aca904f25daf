"""The parts of a cache that belong to one process, and their construction."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from redis import Redis
from redis.exceptions import RedisError

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.cache.codecs import Codecs
from servease_appt.cache.direct import DirectStore
from servease_appt.cache.event_log import EventLog
from servease_appt.cache.guards import GuardedObserver, GuardedRecorder
from servease_appt.cache.invalidation import InvalidationHandler, Invalidator
from servease_appt.cache.keeping import L1Keeper
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l1 import L1
from servease_appt.cache.l2 import make_l2
from servease_appt.cache.l2.protocol import Backend
from servease_appt.cache.lifetimes import Policies
from servease_appt.cache.listener import Listener
from servease_appt.cache.loading import Loader
from servease_appt.cache.plain_requests import PlainRequests
from servease_appt.cache.reading import Reader
from servease_appt.cache.recovery import OutageProbe, Recovery
from servease_appt.cache.redis_client import database_of
from servease_appt.cache.refresh import RefreshSchedule
from servease_appt.cache.refusals import SCRIPT_TEST
from servease_appt.cache.sentinel import sentinels_of
from servease_appt.cache.single_flight import Flights
from servease_appt.cache.stats import Observer, Recorder
from servease_appt.cache.worker_queries import QueryResponder

log = logging.getLogger(__name__)
V = TypeVar("V")

L2_COOL_DOWN_S = 2.0
BACKGROUND_THREADS = 2
RECONNECT_EVERY_S = 30.0


class Process(Generic[V]):
    """The threads, locks, sockets, values and identity of one process. A forked child makes its own (R13)."""

    def __init__(
        self,
        *,
        client: Redis | Backend,
        codecs: Codecs[V],
        keys: KeySpace,
        policies: Policies,
        recorder: Recorder,
        observer: Observer | None,
        describe: Callable[[], dict[str, Any]],
        on_pulse: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        recorder = GuardedRecorder(recorder)
        observer = None if observer is None else GuardedObserver(observer)
        self._client = client
        self._keys = keys
        self._codecs = codecs
        self._policy = policy = policies.default
        self._policies = policies
        self._recorder: Recorder = recorder
        self._clock = clock
        self._reconnect_at_s = float("-inf")
        self._observer = observer
        self.identity = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        about = {"pid": os.getpid(), "host": socket.gethostname(), "started_at_s": time.time()}
        self._about = json.dumps(about)
        self.breaker = Breaker(
            threshold=1, cool_down_s=L2_COOL_DOWN_S, on_change=self._on_breaker, clock=clock
        )
        self.l2 = make_l2(client, keys, self.breaker, observer)
        self.l1: L1[V] = L1(
            maxsize=policy.l1_maxsize,
            max_bytes=policy.l1_max_bytes,
            max_value_bytes=policy.l1_max_value_bytes,
            clock=clock,
        )
        self.event_log = EventLog(recorder, codecs.name_of)
        tracked = tuple(f"{name}_" for name in codecs.names) if policy.tracking else ()
        self.listener = Listener(client, keys, tracked, clock)
        self.schedule = RefreshSchedule(self._policies)
        self.flights: Flights[V] = Flights()
        # Neither pool starts a thread before it is given work.
        self._background = ThreadPoolExecutor(BACKGROUND_THREADS, "servease-cache-background")
        self.submit = self._background.submit
        self.recovery = Recovery(self.l2, self.listener, self.event_log, self.identity, self.submit)
        self.l2.watch = self.recovery
        self.l2.on_demoted = self._on_demoted
        self.keeper = self._make_keeper()
        self.loader = self._make_loader()
        self.invalidator = self._make_invalidator()
        self.direct = self._make_direct_store()
        self.reader = self._make_reader()
        self.requests = PlainRequests(
            self.invalidator.carry_out,
            announce_start=self.invalidator.announce_start,
            # Only the order of a single connection shows if a message came after a request.
            elected=self.l2.listens_where_it_reads,
            sequence=lambda: self.listener.sequence,
            event_log=self.event_log,
            submit=self.submit,
        )
        self.handler = self._make_handler(describe, on_pulse)

    def _make_keeper(self) -> L1Keeper[V]:
        return L1Keeper(
            l1=self.l1,
            l2=self.l2,
            listener=self.listener,
            codecs=self._codecs,
            event_log=self.event_log,
            l1_is_configured=bool(self._policy.l1_ttl_s),
            submit=self.submit,
        )

    def _make_loader(self) -> Loader[V]:
        return Loader(
            l1=self.l1,
            l2=self.l2,
            flights=self.flights,
            codecs=self._codecs,
            policies=self._policies,
            schedule=self.schedule,
            recorder=self._recorder,
            event_log=self.event_log,
            identity=self.identity,
            submit=self.submit,
            keep=self.keeper.keep,
            fills_are_reported=lambda: self.listener.tracking,
            clock=self._clock,
        )

    def _make_invalidator(self) -> Invalidator[V]:
        return Invalidator(
            l1=self.l1,
            l2=self.l2,
            flights=self.flights,
            codecs=self._codecs,
            event_log=self.event_log,
            listener=self.listener,
            identity=self.identity,
        )

    def _make_direct_store(self) -> DirectStore[V]:
        return DirectStore(
            l2=self.l2,
            codecs=self._codecs,
            policies=self._policies,
            recorder=self._recorder,
            event_log=self.event_log,
            identity=self.identity,
            epoch=self.l1.epoch,
            new_token=self.loader.new_token,
            keep=self.keeper.keep,
            drop=self.invalidator.drop,
        )

    def _make_reader(self) -> Reader[V]:
        return Reader(
            l1=self.l1,
            l2=self.l2,
            codecs=self._codecs,
            policy=self._policy,
            loader=self.loader,
            direct=self.direct,
            schedule=self.schedule,
            recovery=self.recovery,
            recorder=self._recorder,
            event_log=self.event_log,
            clock=self._clock,
        )

    def _make_handler(
        self, describe: Callable[[], dict[str, Any]], on_pulse: Callable[[], None]
    ) -> InvalidationHandler[V]:
        responder = QueryResponder(
            identity=self.identity,
            describe=describe,
            l1=self.l1,
            event_log=self.event_log,
            listener=self.listener,
            keys=self._keys,
            codecs=self._codecs,
            database=database_of(self._client),
            clock=self._clock,
        )
        return InvalidationHandler(
            l1=self.l1,
            l2=self.l2,
            keeper=self.keeper,
            invalidator=self.invalidator,
            flights=self.flights,
            codecs=self._codecs,
            schedule=self.schedule,
            recovery=self.recovery,
            probe=OutageProbe(self.l2, self.breaker, self.submit),
            responder=responder,
            event_log=self.event_log,
            listener=self.listener,
            register=self._register,
            requests=self.requests,
            refusals=self.l2.refusals,
            on_pulse=on_pulse,
            clock=self._clock,
        )

    def start(self) -> None:
        """Start the listener. Call it once at most."""
        sentinels = sentinels_of(self._client)
        if sentinels is not None:
            sentinels.on_switch.add(self._on_switch)
        self.listener.start(self.handler)
        # The listener probes an L2 that does not answer, so that no reader has to wait for a timeout.
        self.breaker.callers_try = False

    def close(self) -> None:
        """Stop the listener, then wait for running tasks and loads; those not begun are dropped."""
        if self.listener.started:
            sentinels = sentinels_of(self._client)
            if sentinels is not None:
                sentinels.on_switch.discard(self._on_switch)
            self.listener.stop()
            self._sign_off()
        self.requests.close()
        self.recovery.close()
        self._background.shutdown(wait=True, cancel_futures=True)
        self.loader.close()

    def _register(self) -> None:
        """Add this worker to the register of workers, which commands read; read the switch of L1; try a script."""
        self.listener.send_soon("EXISTS", self._keys.l1_off)
        if not isinstance(self._client, Backend):
            self.listener.send_soon("EVAL", SCRIPT_TEST, "0")
        if self.l2.listens_where_it_reads:
            self.listener.send_soon("HSET", self._keys.workers, self.identity, self._about)
        else:  # a cluster's channel reaches one node, which need not hold the register
            self.submit(self._register_directly)

    def _register_directly(self) -> None:
        if isinstance(self._client, Backend):
            return
        try:
            self._client.hset(self._keys.workers, self.identity, self._about)
        except (RedisError, OSError) as error:
            self.l2.refusals.refused("HSET", error)
            log.debug("Redis does not answer: this worker registers again a few seconds later")
        else:
            self.l2.refusals.accepted("HSET")

    def _sign_off(self) -> None:
        if isinstance(self._client, Backend):
            return
        try:
            self._client.hdel(self._keys.workers, self.identity)
        except (RedisError, OSError):
            log.debug("Redis does not answer: this worker stays registered until a command finds it gone")

    def _on_switch(self) -> None:
        """Use nothing of the server that connections now lead to until the listener has compared it."""
        self.recovery.suspend_l2()
        self.listener.reconnect()

    def _on_demoted(self) -> None:
        """Reconnect the listener to find the primary, rarely: the listener may already be connected to it."""
        now_s = self._clock()
        if now_s >= self._reconnect_at_s:
            self._reconnect_at_s = now_s + RECONNECT_EVERY_S
            self.listener.reconnect()

    def _on_breaker(self, state: BreakerState) -> None:
        if state is BreakerState.OPEN:
            log.warning("Redis does not answer: going on without it")
        else:
            log.warning("Redis answers again")
        if self._observer is not None:
            self._observer.breaker_changed("redis", state)
