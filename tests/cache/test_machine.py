"""Workers on a bus that loses, doubles, swaps and cuts, on a clock that jumps; Hypothesis looks for a bad end.

Two real caches on the real Valkey. Their listeners have no thread: the machine reads the frames of each real
channel and hands them on as it likes, through the listener's own code. Loads and reads can be stopped on their
way. What must hold:

    always    whoever begins to read is given nothing older than what the reading worker has invalidated itself,
              or than what anybody had invalidated `BOUND_S` earlier by the fake clock
    at rest   with all links healed and all work done, every tier holds the source's value or none

A dropped message stands for one lost on a link that holds. The server's own news (tracking) and its answers are
not dropped one by one: on one TCP connection they are lost with the link or not at all.
"""

import os
import socket
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from redis.exceptions import RedisError

from servease_appt.cache import connect, process
from servease_appt.cache import listener as listener_module
from servease_appt.cache.callbacks import ListenerCallbacks
from servease_appt.cache.channel import Channel, Frame, Published, Reply
from servease_appt.cache.direct import Fence
from servease_appt.cache.heartbeat import HeartbeatTimeout
from servease_appt.cache.listener import Listener
from servease_appt.cache.send_queue import BEAT_S
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache import mutants
from tests.cache.mutants import Mutation
from tests.cache.test_l1 import Clock
from tests.cache.testbed import (
    CODECS,
    LIMIT_S,
    PREFIX,
    Cache,
    Gate,
    Source,
    Versioned,
    eventually,
    held_in_l1,
    monkeypatch,
    policy,
)

BOUND_S = 2.0
KEYS = ("customer_1", "customer_2")
WORKERS = (0, 1)
MACHINE_POLICY = policy(ttl_s=10_000, l1_ttl_s=30, load_timeout_s=60, soft_timeout_s=59)

workers = st.sampled_from(WORKERS)
keys = st.sampled_from(KEYS)


class Bus(Channel):
    """A real channel whose frames wait until the machine hands them on."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self.inbox: deque[Frame] = deque()

    def pump(self) -> None:
        """Take in all that the server has sent by now: it answers an ECHO behind that."""
        self.send("ECHO", "so far")
        while True:
            self._connection.can_read(LIMIT_S)
            there, frame = self.receive()
            if there and frame == Reply(b"so far"):
                return
            if there:
                self.inbox.append(frame)


class ByHand(Listener):
    """A listener without a thread."""

    bus: Bus | None = None
    turned_at_s = float("-inf")

    def start(self, callbacks: ListenerCallbacks) -> None:
        """Connect and ask what is asked first; everything else is done step by step."""
        self._callbacks = self._heartbeat.callbacks = self._gathered.callbacks = callbacks
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self.started = True
        self._stopping.set()
        self._listen()

    def stop(self, timeout_s: float = 0.0) -> None:
        """Close the sockets."""
        self._disconnect()
        super().stop(timeout_s)

    def _listen(self) -> None:
        """Subscribe on a channel of the machine's; the loops after that are `step`."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(listener_module, "open_channel", self._open)
            super()._listen()

    def _open(self, client: redis.Redis, *_: object, **__: object) -> Channel:
        self.bus = Bus(client)
        return self.bus

    def _disconnect(self) -> None:
        super()._disconnect()
        self.bus = None

    def step(self, frames: int) -> None:
        """One turn of the loops in `_run` and `_listen`, when so many of the frames that were sent have arrived.

        A thread that was kept from running for longer than a beat finds all that was sent.
        """
        if self.bus is None:
            self._listen()
        assert self.bus is not None
        if self._clock() > self.turned_at_s + BEAT_S:
            frames = 1000
        self.turned_at_s = self._clock()
        try:
            self.bus.pump()
            try:
                for _ in range(min(frames, len(self.bus.inbox))):
                    self._handle(self.bus.inbox.popleft())
            finally:
                self._gathered.handle()
            self._send_what_is_due(self.bus)
        except (HeartbeatTimeout, RedisError, OSError):
            self._disconnect()


@dataclass
class Reading:
    """A read that was stopped on its way."""

    worker: int
    key: str
    floor: int
    gate: Gate
    future: "Future[Versioned | None]"
    holds_lease: bool
    free: bool = field(default=False)
    """The lease is gone, so that nobody would wait for this one."""


@dataclass
class Peek:
    """A caller that has missed, has computed the value that was true then, and has not stored it yet."""

    worker: int
    key: str
    value: Versioned
    fence: Fence
    free: bool = field(default=False)
    """The fence is gone, so that nobody would wait for this one."""


class Workers(RuleBasedStateMachine):
    """The machine; subclasses take a protection out."""

    port: int
    mutate: Mutation = staticmethod(mutants.no_mutation)

    @initialize()
    def begin(self) -> None:
        """An empty server that knows invalidations, two connected workers."""
        self.clock = Clock()
        self.operator = redis.Redis(port=self.port, db=1)
        self.operator.flushall()
        self.operator.set(f"{PREFIX}:__seq", 1000)
        self.source = Source()
        self.threads = ThreadPoolExecutor(8)
        self.readings: list[Reading] = []
        self.peeks: list[Peek] = []
        self.own_floor = {(worker, key): 0 for worker in WORKERS for key in KEYS}
        self.acknowledged: dict[str, list[tuple[float, int]]] = {key: [] for key in KEYS}
        self.caches: list[Cache] = []
        for key in KEYS:
            self.source.put(key)
        for _ in WORKERS:
            client = connect(f"redis://127.0.0.1:{self.port}/1", timeout_s=5.0)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(process, "Listener", ByHand)
                cache: Cache = Cache(
                    client, CODECS, prefix=PREFIX, policy=MACHINE_POLICY, clock=self.clock, owns_client=True
                )
            cache._process.requests.delay_s = lambda: 0.0
            monkeypatch(cache._process.requests, "_submit", lambda work: work())
            type(self).mutate(cache)
            self.caches.append(cache)
        for cache in self.caches:
            cache.start()
            self.listener(cache).step(10)

    @staticmethod
    def listener(cache: Cache) -> ByHand:
        """The cache's listener, which is one of ours."""
        assert isinstance(cache._process.listener, ByHand)
        return cache._process.listener

    # What is true, and what may still be served

    def floor(self, worker: int, key: str) -> int:
        """The oldest version that this worker may be given by a read that begins now."""
        told = [version for at_s, version in self.acknowledged[key] if at_s <= self.clock() - BOUND_S]
        return max([self.own_floor[worker, key], *told])

    def changed(self, key: str, version: int, worker: int | None = None) -> None:
        """A change has been made known, by a worker or by hand."""
        self.acknowledged[key].append((self.clock(), version))
        if worker is not None:
            self.own_floor[worker, key] = version

    def check(self, reading_floor: int, value: Versioned | None, key: str) -> None:
        """What was read is a version of that key, and not too old."""
        assert value is not None, f"{key} is not found"
        assert value.id == key.partition("_")[2]
        assert value.version >= reading_floor, (
            f"{key}: {value.version} was served, {reading_floor} is the oldest allowed"
        )

    # Reading

    def waits_for_nobody(self, worker: int, key: str) -> bool:
        """Whether a read would go through, and not wait for one that was stopped."""
        return not any(
            reading.key == key and not (reading.free and reading.worker != worker)
            for reading in self.readings
        ) and not any(peek.key == key and not peek.free for peek in self.peeks)

    @rule(worker=workers, key=keys)
    def read(self, worker: int, key: str) -> None:
        """A read from its beginning to its end."""
        if self.waits_for_nobody(worker, key):
            floor = self.floor(worker, key)
            self.check(floor, self.caches[worker].get(key, self.source.load), key)

    @rule(worker=workers, key=keys)
    def begin_a_load(self, worker: int, key: str) -> None:
        """A read whose load, if there is one, has read the source and is on its way back."""
        if not self.waits_for_nobody(worker, key):
            return
        floor, gate = self.floor(worker, key), self.source.hold(key)
        future = self.threads.submit(self.caches[worker].get, key, self.source.load)
        eventually(lambda: future.done() or self.arrived(gate), "the load")
        self.source.release(key)
        if future.done():
            self.check(floor, future.result(), key)
        else:
            self.readings.append(Reading(worker, key, floor, gate, future, holds_lease=True))

    @rule(worker=workers, key=keys)
    def begin_a_read_of_l2(self, worker: int, key: str) -> None:
        """A read of what L1 holds no more, that has L2's answer and has not kept it yet."""
        if not self.waits_for_nobody(worker, key):
            return
        floor, gate, cache = self.floor(worker, key), Gate(), self.caches[worker]
        cache.l1.invalidate([key])
        read = cache.l2.read

        def stopped(wanted: Any) -> Any:
            answer = read(wanted)
            gate.pass_through()
            return answer

        monkeypatch(cache.l2, "read", stopped)
        future = self.threads.submit(cache.get, key, self.source.load)
        eventually(lambda: future.done() or self.arrived(gate), "the answer of L2")
        monkeypatch(cache.l2, "read", read)
        if future.done():
            self.check(floor, future.result(), key)
        else:
            self.readings.append(Reading(worker, key, floor, gate, future, holds_lease=False))

    @staticmethod
    def arrived(gate: Gate) -> bool:
        """Whether somebody stands at a gate."""
        return gate._arrived.acquire(blocking=False)

    @precondition(lambda self: self.readings)
    @rule(which=st.integers(0, 9))
    def finish(self, which: int) -> None:
        """Let a stopped read go on to its end."""
        reading = self.readings[which % len(self.readings)]
        others = [other for other in self.readings if other is not reading and other.key == reading.key]
        if any(other.holds_lease and not (other.free and other.worker != reading.worker) for other in others):
            return
        if any(peek.key == reading.key and not peek.free for peek in self.peeks):
            return
        self.readings.remove(reading)
        reading.gate.open()
        self.check(reading.floor, reading.future.result(LIMIT_S), reading.key)

    @rule()
    def finish_all(self) -> None:
        """Let all go on that were stopped, loads first. None finds a lease that a caller holds for later."""
        for peek in self.peeks:
            self.store(peek)
        self.peeks.clear()
        for reading in sorted(self.readings, key=lambda reading: not reading.holds_lease):
            reading.gate.open()
            self.check(reading.floor, reading.future.result(LIMIT_S), reading.key)
        self.readings.clear()

    def store(self, peek: Peek) -> None:
        """Store what a caller has computed, unless its key was invalidated meanwhile."""
        self.caches[peek.worker].fill(peek.key, peek.value, peek.fence, ttl_s=60)
        self.caches[peek.worker].release({peek.key: peek.fence})

    # Changing

    def free_leases(self, chosen: tuple[str, ...]) -> None:
        """An invalidation has deleted them."""
        for reading in self.readings:
            reading.free = reading.free or reading.key in chosen
        for peek in self.peeks:
            peek.free = peek.free or peek.key in chosen

    @rule(reader=workers, writer=workers, key=keys, loading=st.booleans())
    def change_under_a_read(self, reader: int, writer: int, key: str, loading: bool) -> None:
        """The first steps of races R1, R2 and R17 in a row: chance alone brings them together too rarely."""
        if loading:
            self.delete_quietly(key)
            self.begin_a_load(reader, key)
        else:
            self.read(writer, key)
            self.begin_a_read_of_l2(reader, key)
        self.invalidate(writer, key)

    def delete_quietly(self, key: str) -> None:
        """The value ends in L2 and in every L1, as values do."""
        self.operator.delete(f"{PREFIX}:{key}")
        for cache in self.caches:
            cache.l1.invalidate([key])

    @rule(worker=workers, key=keys)
    def invalidate(self, worker: int, key: str) -> None:
        """The source changes, and a worker says so."""
        version = self.source.put(key).version
        self.caches[worker].invalidate([key])
        self.free_leases((key,))
        self.changed(key, version, worker)

    @rule(worker=workers, key=keys)
    def write(self, worker: int, key: str) -> None:
        """The source changes, and a worker stores the new value by hand."""
        value = self.source.put(key)
        assert self.caches[worker].set(key, value, ttl_s=60)
        self.free_leases((key,))
        self.changed(key, value.version, worker)

    @rule(worker=workers, key=keys, loading=st.booleans())
    def write_under_a_read(self, worker: int, key: str, loading: bool) -> None:
        """The first steps of races R1 and R2 in a row, with a write in the place of the invalidation."""
        if loading:
            self.delete_quietly(key)
            self.begin_a_load(worker, key)
        else:
            self.read(1 - worker, key)
            self.begin_a_read_of_l2(worker, key)
        self.write(1 - worker, key)

    @rule(worker=workers, key=keys)
    def ask_by_hand(self, worker: int, key: str) -> None:
        """The source changes, and an operator publishes the key; one worker hears it at once, and carries it out.

        A plain message that no worker hears is lost, which is stated: then the worker invalidates by itself.
        """
        cache, sequence = self.caches[worker], f"{PREFIX}:__seq"
        self.listener(cache).step(1000)
        version = self.source.put(key).version
        before = self.operator.get(sequence)
        self.operator.publish(f"{PREFIX}:invalidate", key)
        self.listener(cache).step(1000)
        if self.operator.get(sequence) == before:
            cache.invalidate([key])
        self.free_leases((key,))
        self.changed(key, version)

    @rule(worker=workers)
    def invalidate_by_pattern(self, worker: int) -> None:
        """Everything changes, and a worker says so."""
        versions = {key: self.source.put(key).version for key in KEYS}
        self.caches[worker].invalidate_matching("customer_*")
        self.free_leases(KEYS)
        for key, version in versions.items():
            self.changed(key, version, worker)

    @rule(key=keys, everything=st.booleans())
    def delete_by_hand(self, key: str, everything: bool) -> None:
        """The source changes, and an operator deletes the value, or flushes the database. For a DEL no load of the
        key is under way: that it could store what it has is stated."""
        if everything:
            self.flush_by_hand()
            return
        if any(reading.key == key for reading in self.readings) or any(
            peek.key == key for peek in self.peeks
        ):
            return
        version = self.source.put(key).version
        self.operator.delete(f"{PREFIX}:{key}")
        self.changed(key, version)

    def flush_by_hand(self) -> None:
        """Everything changes, and an operator flushes the database."""
        versions = {key: self.source.put(key).version for key in KEYS}
        self.operator.flushdb()
        self.free_leases(KEYS)
        for key, version in versions.items():
            self.changed(key, version)

    # The bus and the clock

    @rule(worker=workers, frames=st.sampled_from([1, 2, 9]))
    def deliver(self, worker: int, frames: int) -> None:
        """A listener takes its turn, and hears some of what has arrived."""
        self.listener(self.caches[worker]).step(frames)

    def messages(self, worker: int) -> tuple[deque[Frame], list[int]]:
        """What waits for a listener, and where among it the messages are."""
        bus = self.listener(self.caches[worker]).bus
        if bus is None:
            return deque(), []
        bus.pump()
        return bus.inbox, [n for n, frame in enumerate(bus.inbox) if isinstance(frame, Published)]

    @rule(worker=workers, how=st.sampled_from(["lose", "double", "delay"]))
    def tamper(self, worker: int, how: str) -> None:
        """A message is lost, comes twice, or is overtaken by everything else."""
        inbox, places = self.messages(worker)
        if not places:
            return
        message = inbox[places[0]]
        if how != "double":
            del inbox[places[0]]
        if how != "lose":
            inbox.append(message)

    @rule(reader=workers, writer=workers, key=keys, how=st.sampled_from(["lose", "double", "delay"]))
    def tamper_with_a_change(self, reader: int, writer: int, key: str, how: str) -> None:
        """The steps of race R6 in a row."""
        self.listener(self.caches[reader]).step(9)
        self.read(reader, key)
        self.invalidate(writer, key)
        self.tamper(reader, how)

    @rule(worker=workers)
    def cut(self, worker: int) -> None:
        """The link is lost with all that was on it; the listener's next turn makes it anew."""
        self.listener(self.caches[worker])._disconnect()

    @rule(seconds=st.sampled_from([0.3, 0.6, 1.1, 2.1, 31.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, for everybody."""
        self.clock.now_s += seconds

    @rule()
    def calm(self) -> None:
        """Nothing happens for a little longer than the bound, and the listeners keep up."""
        for _ in range(4):
            self.clock.now_s += BEAT_S + 0.1
            for cache in self.caches:
                self.listener(cache).step(1000)

    # What holds

    @invariant()
    def l1_serves_nothing_too_old(self) -> None:
        """What L1 alone would answer right now is new enough."""
        for worker, cache in enumerate(self.caches):
            for key, value in cache.l1.get_many(KEYS).values.items():
                self.check(self.floor(worker, key), value, key)

    def teardown(self) -> None:
        """Come to rest, and look whether every tier holds the truth."""
        if not hasattr(self, "caches"):
            return
        try:
            self.come_to_rest()
        finally:
            for reading in self.readings:
                reading.gate.open()
            for cache in self.caches:
                cache.close()
            self.threads.shutdown()
            self.operator.close()

    def come_to_rest(self) -> None:
        """Finish everything, heal everything, and compare."""
        self.finish_all()
        self.calm()
        for key in KEYS:
            truth = self.source.load(key, 0.0)
            stored: Any = self.operator.get(f"{PREFIX}:{key}")
            in_l2 = None if stored is None else self.caches[0].codecs.decode(key, stored)
            assert in_l2 in (None, truth), f"L2 has {in_l2}, the truth is {truth}"
            for cache in self.caches:
                in_l1 = held_in_l1(cache, key)
                assert in_l1 in (None, truth), f"L1 has {in_l1}, the truth is {truth}"
                assert cache.get(key, self.source.load) == truth


class WorkersThatFill(Workers):
    """The same, with callers that look, compute and store by themselves, as Flask-Caching's do."""

    @rule(worker=workers, key=keys)
    def peek(self, worker: int, key: str) -> None:
        """Look, and where there is nothing compute the value, to store it later."""
        if not self.waits_for_nobody(worker, key):
            return
        floor = self.floor(worker, key)
        values, fences = self.caches[worker].peek_many([key])
        if key in values:
            self.check(floor, values[key], key)
        elif key in fences:
            self.peeks.append(Peek(worker, key, self.source.load(key, 0.0), fences[key]))

    @rule(worker=workers, key=keys)
    def peek_at_nothing(self, worker: int, key: str) -> None:
        """The first step of a late fill: chance alone finds both tiers empty too rarely."""
        self.delete_quietly(key)
        self.peek(worker, key)

    # No precondition: a lease may have expired in real time, and Hypothesis wants the same choices each time.
    @rule(which=st.integers(0, 9))
    def fill(self, which: int) -> None:
        """Store what was computed; the key may have been invalidated meanwhile."""
        if self.peeks:
            self.store(self.peeks.pop(which % len(self.peeks)))


HISTORIES = os.environ.get("CACHE_HISTORIES")
"""How many new histories to draw, as by night; without it the same hundred in every run."""

LOOK = settings(
    max_examples=int(HISTORIES or 100),
    stateful_step_count=40,
    derandomize=HISTORIES is None,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


FEWER = settings(LOOK, max_examples=int(HISTORIES or 30))


def machine(valkey: EmbeddedValkey, mutation: Mutation, workers: type[Workers] = Workers) -> type[Workers]:
    """The machine on the run's server, with a protection taken out."""
    return type("Mutated", (workers,), {"port": valkey.port, "mutate": staticmethod(mutation)})


def test_no_order_of_events_ends_stale(valkey: EmbeddedValkey) -> None:
    """A hundred histories of forty events each, the same in every run; `CACHE_HISTORIES=10000` draws new ones."""
    run_machine(machine(valkey, mutants.no_mutation), settings=LOOK)


def test_no_late_fill_ends_stale(valkey: EmbeddedValkey) -> None:
    """Thirty histories with callers that store what they computed before an invalidation."""
    run_machine(machine(valkey, mutants.no_mutation, WorkersThatFill), settings=FEWER)


def test_a_late_fill_without_its_fence_is_found(valkey: EmbeddedValkey) -> None:
    """With the same effort."""
    with pytest.raises(AssertionError, match=r"oldest allowed|the truth is"):
        run_machine(machine(valkey, mutants.without_lease_check, WorkersThatFill), settings=FEWER)


def test_nothing_is_trusted_before_it_is_compared(valkey: EmbeddedValkey) -> None:
    """Found by the machine: B's listener was kept from running while an operator deleted a value. It hears of that
    and asks for a heartbeat; whichever answer comes first, L1 serves the value at no moment.

    Seen to fail with the heartbeat sent before the comparison.
    """
    world = machine(valkey, mutants.no_mutation)()
    world.begin()
    try:
        world.read(worker=0, key="customer_1")
        world.calm()
        assert world.caches[0].l1.get_many(["customer_1"]).values
        world.delete_by_hand(key="customer_1", everything=False)
        world.wait(seconds=2.1)
        listener = world.listener(world.caches[0])
        for _ in range(6):
            listener.step(1)
            world.l1_serves_nothing_too_old()
        assert held_in_l1(world.caches[0], "customer_1") is None
    finally:
        world.teardown()


@pytest.mark.parametrize(
    "mutation",
    [
        mutants.without_lease_check,
        mutants.without_flush_at_confirmation,
        mutants.without_gaps,
        mutants.without_l1_fence,
    ],
    ids=lambda mutation: mutation.__name__,
)
def test_it_finds_a_missing_protection(mutation: Mutation, valkey: EmbeddedValkey) -> None:
    """With the same effort: so the silence of the test above says something."""
    with pytest.raises(AssertionError, match=r"oldest allowed|the truth is"):
        run_machine(machine(valkey, mutation), settings=LOOK)
