"""The cache's protocol as a small machine whose every interleaving can be walked through.

One key, two workers, one Redis. Each step is one thing that happens at once in the real code and is named after
the function that does it; between two steps anything else may happen. Epochs are modelled by what they are for:
a reader carries `fenced` (an invalidation was handled in its worker since it took its epoch) and `suspected`.

`explore` walks breadth-first and returns the shortest way to a bad state, or None. Bad is
    at rest    a value in L2 or in an L1 that is not the source's, once nothing more can happen;
    at once    a reader that began after its own worker's invalidation had returned is given an older value;
    no progress  a load that ended is not stored although its lease was voided by nothing but a takeover.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any, NamedTuple

DONE = 99
Entry = tuple[int, int]
"""A value in L1 and the reader that put it there: what `drop_if_same` compares."""


class Guard(StrEnum):
    """The protections of the protocol; each can be taken out."""

    L1_EPOCH = auto()
    """`L1.put_many` refuses what was read before an invalidation."""
    LEASE_IN_FILL = auto()
    """`fill.lua` stores nothing without the lease."""
    OWN_LEASE = auto()
    """... and not under anybody else's."""
    TAKEOVER_KEEPS_FENCE = auto()
    """`acquire.lua` changes the owner of a lease that is taken over, and not the fence."""
    INVALIDATION_TAKES_LEASE = auto()
    """`invalidate.lua` deletes the lease."""
    WRITE_TAKES_LEASE = auto()
    """`write.lua` deletes the lease, as an invalidation does."""
    WRITE_ANNOUNCES = auto()
    """`write.lua` increments the sequence and publishes."""
    FLUSH_TAKES_LEASE = auto()
    """FLUSHDB deletes leases, since they are keys like others."""
    OWN_L1_LAST = auto()
    """`invalidate` drops its own L1 after L2."""
    ONE_SCRIPT = auto()
    """`invalidate.lua` deletes and publishes at once."""
    SEQUENCE = auto()
    """The listener compares sequence numbers."""
    HISTORY = auto()
    """A worker that connects to another server empties L2, unless the replication history is a proof."""
    ACKNOWLEDGED_IS_NEWER = auto()
    """An invalidation that was acknowledged after the last report was asked for is not proved by it."""
    FLUSH_AFTER_CONFIRMATION = auto()
    """A new subscription empties L1 when it is confirmed, not when it is asked for."""
    VERIFY_HELD = auto()
    """`on_changed` has what L1 holds compared with L2."""
    VERIFY_PUT = auto()
    """`put_many` has compared what was put after such news."""
    LEASES_FIRST = auto()
    """`invalidate_matching` scans for leases before it scans for values."""
    DETACH = auto()
    """An invalidation lets nobody join a load that began before it."""
    COVERED_FROM_BEHIND = auto()
    """`PlainRequests.covered`: only a numbered message behind a request takes it away."""
    DONE_AS_SEEN = auto()
    """A worker that has carried a request out takes away what it had seen when it began, and nothing newer."""
    RETRY = auto()
    """What could not be carried out stays pending."""


class Node(NamedTuple):
    """One worker: its L1, its listener, and the load that others of its readers may join."""

    l1: Entry | None = None
    stream: tuple[tuple[Any, ...], ...] = ()
    subscribed: bool = True
    confirmed: bool = True
    sequence: int = 0
    to_verify: Entry | None = None
    flight: int | None = None
    acknowledged: int = 0
    requests: int = 0
    """How many plain requests were heard; the last of them is `pending`, and `attempted` is being carried out."""
    pending: int = 0
    attempted: int = 0
    covered: bool = False
    history: int = 0
    offset: int = 0
    """The last report of the server's replication history."""
    newer: bool = False
    """Invalidations were heard or acknowledged since that report was asked for."""
    acknowledgements: int = 0


class Process(NamedTuple):
    """A thread, or an operator: what it does, in which worker, and how far it is."""

    kind: str
    node: int
    step: int = 0
    value: int | None = None
    fenced: bool = False
    suspected: bool = False
    floor: int = 0
    fence: int | None = None
    voided: bool = False
    """The lease that it holds went by an invalidation or ran out."""


class State(NamedTuple):
    """Everything."""

    source: int
    data: int | None
    lease: int | None
    sequence: int
    nodes: tuple[Node, Node]
    processes: tuple[Process, ...]
    losses: int
    expiries: int
    takeovers: int
    failures: int
    served_too_old: bool = False
    stalled: bool = False
    history: int = 0
    offset: int = 0
    switched_at: int = 0
    """The offset at which this server's history began."""
    replica: tuple[int | None, int, int] | None = None
    """What a replica that lags behind has: value, sequence, offset. It has no lease: the load may end later."""

    def at(self, node: int, **changes: Any) -> "State":
        """With one worker changed."""
        nodes = list(self.nodes)
        nodes[node] = nodes[node]._replace(**changes)
        return self._replace(nodes=(nodes[0], nodes[1]))

    def going(self, index: int, **changes: Any) -> "State":
        """With one process changed."""
        processes = list(self.processes)
        processes[index] = processes[index]._replace(**changes)
        return self._replace(processes=tuple(processes))


Steps = Iterator[tuple[str, State]]


@dataclass(frozen=True)
class Scenario:
    """Who acts, from where on. Letters: R reads, A refreshes ahead of expiry, W invalidates, S sets the new value,
    P invalidates by pattern, C loses its channel and connects anew, D deletes by hand, F flushes the database by
    hand, U asks by a plain PUBLISH, X is a failover to a replica that lags behind, B sends a heartbeat, O is an
    invalidation of another key by a command; the digit is the worker."""

    who: str
    warm: bool = True
    """L2 and both L1 hold the value."""
    l2_only: bool = False
    """L2 holds the value, and no L1 does."""
    tracking: bool = True
    losses: int = 0
    expiries: int = 0
    takeovers: int = 0
    failures: int = 0
    reordering: bool = False

    def initial(self) -> State:
        """The state before anything happens."""
        in_l2 = self.warm or self.l2_only
        node = Node(l1=(0, -1) if self.warm and not self.l2_only else None)
        processes = tuple(Process(word[0], int(word[1])) for word in self.who.split())
        data = 0 if in_l2 else None
        mishaps = (self.losses, self.expiries, self.takeovers, self.failures)
        return State(0, data, None, 0, (node, node), processes, *mishaps)


class Protocol:
    """The steps that each state allows, with some guards taken out."""

    def __init__(self, scenario: Scenario, without: Iterable[Guard] = ()) -> None:
        self._scenario = scenario
        self._without = frozenset(without)

    def has(self, guard: Guard) -> bool:
        """Whether a protection is in force."""
        return guard not in self._without

    def steps(self, state: State) -> Steps:
        """Everything that may happen next."""
        kinds = {
            "R": self._reader,
            "A": self._refresher,
            "W": self._writer,
            "S": self._setter,
            "P": self._pattern,
            "C": self._reconnect,
            "X": self._failover,
            "B": self._heartbeat,
            "O": self._other_key,
        }
        for index, process in enumerate(state.processes):
            if process.step == DONE:
                continue
            step = kinds.get(process.kind, self._by_hand)
            yield from step(state, index, process)
        for number in (0, 1):
            yield from self._listener(state, number)
        if state.expiries and state.lease is not None:
            yield "the lease expires", self._voided(state)._replace(expiries=state.expiries - 1)

    # Read and fill

    def _reader(self, state: State, i: int, me: Process) -> Steps:
        node = state.nodes[me.node]
        match me.step:
            case 0:
                floor = node.acknowledged
                if node.l1 is not None:
                    yield f"R{i} l1.get_many: hit", self._served(state, i, node.l1[0], floor)
                else:
                    yield f"R{i} l1.get_many: miss", state.going(i, step=1, floor=floor)
            case 1:
                there = state.data is not None
                after = state.going(i, step=5 if there else 2, value=state.data)
                yield f"R{i} l2.read: {state.data}", after
            case 2 if node.flight is not None:
                joined = state.going(i, step=6, value=node.flight)
                yield f"R{i} flights.join_or_lead: joins R{node.flight}, waits for its completion", joined
            case 2:
                led = state.going(i, step=3, fenced=False, suspected=False).at(me.node, flight=i)
                yield f"R{i} flights.join_or_lead: leads", led
            case 3:
                yield from self._acquire(state, i)
            case 4:
                yield f"R{i} load: {state.source}", state.going(i, step=7, value=state.source)
            case 5:
                yield self._put(state, i, me)
            case 7:
                yield self._fill(state, i, me)

    def _refresher(self, state: State, i: int, me: Process) -> Steps:
        """`Loader._refresh`, or a call that refreshes ahead: it loads under a lease although L2 has a value."""
        match me.step:
            case 0:
                yield f"A{i} l1.epoch", state.going(i, step=3, fenced=False, suspected=False)
            case 3 if state.lease is not None:
                yield f"A{i} acquire.lua: held", state.going(i, step=DONE)
            case 3:
                granted = state.going(i, step=4, fence=i, voided=False)
                yield f"A{i} acquire.lua: granted", granted._replace(lease=i)
            case _:
                yield from self._reader(state, i, me)

    def _acquire(self, state: State, i: int) -> Steps:
        if state.data is not None:
            yield f"R{i} acquire.lua: value {state.data}", state.going(i, step=5, value=state.data)
        elif state.lease is None:
            granted = state.going(i, step=4, fence=i, voided=False)
            yield f"R{i} acquire.lua: granted", granted._replace(lease=i)
        elif state.takeovers:
            fence = state.lease if self.has(Guard.TAKEOVER_KEEPS_FENCE) else i
            taken = state.going(i, step=4, fence=fence, voided=False)
            taken = taken._replace(lease=fence, takeovers=state.takeovers - 1)
            yield f"R{i} acquire.lua: takes over from R{state.lease}", taken

    def _fill(self, state: State, i: int, me: Process) -> tuple[str, State]:
        assert me.value is not None
        stands = state.lease is not None and (state.lease == me.fence or not self.has(Guard.OWN_LEASE))
        if stands or not self.has(Guard.LEASE_IN_FILL):
            stored = state._replace(data=me.value, lease=None).going(i, step=5)
            return f"R{i} fill.lua: stored {me.value}", self._tracked(stored)
        refused = self._landed(state, i, me.value)
        if not me.voided and state.data is None:
            refused = refused._replace(stalled=True)
        return f"R{i} fill.lua: refused {me.value}", self._served(refused, i, me.value, me.floor)

    def _put(self, state: State, i: int, me: Process) -> tuple[str, State]:
        assert me.value is not None
        after = self._served(self._landed(state, i, me.value), i, me.value, me.floor)
        if me.fenced and self.has(Guard.L1_EPOCH):
            return f"R{i} l1.put_many: refused {me.value}", after
        entry = (me.value, i)
        after = after.at(me.node, l1=entry)
        if me.suspected and self.has(Guard.VERIFY_PUT):
            after = after.at(me.node, to_verify=entry)
        return f"R{i} l1.put_many: kept {me.value}", after

    def _landed(self, state: State, i: int, value: int) -> State:
        """`Loader._commit`: let nobody join any more, and answer those who have."""
        node = state.processes[i].node
        if state.nodes[node].flight == i:
            state = state.at(node, flight=None)
        for index, process in enumerate(state.processes):
            if process.kind == "R" and process.step == 6 and process.value == i:
                state = self._served(state, index, value, process.floor)
        return state

    def _served(self, state: State, i: int, value: int, floor: int) -> State:
        done = state.going(
            i, step=DONE, value=None, floor=0, fenced=False, suspected=False, fence=None, voided=False
        )
        return done._replace(served_too_old=state.served_too_old or value < floor)

    # Invalidate

    def _writer(self, state: State, i: int, me: Process) -> Steps:
        if me.step == 0:
            changed = state._replace(source=state.source + 1)
            yield f"W{i} the source changes", changed.going(i, step=1, value=state.source + 1)
            return
        plan = [self._delete_and_publish] if self.has(Guard.ONE_SCRIPT) else [self._publish, self._delete]
        plan = [*plan, self._own_l1] if self.has(Guard.OWN_L1_LAST) else [self._own_l1, *plan]
        after = plan[me.step - 1](state, i).going(i, step=me.step + 1 if me.step < len(plan) else DONE)
        if me.step == len(plan):
            assert me.value is not None
            known = max(me.value, after.nodes[me.node].acknowledged)
            after = after.at(me.node, acknowledged=known).going(i, value=None)
        yield f"W{i} {plan[me.step - 1].__name__.strip('_')}", after

    def _setter(self, state: State, i: int, me: Process) -> Steps:
        """`DirectStore.write_many`: the script stores and publishes at once, then this process drops its own."""
        match me.step:
            case 0:
                changed = state._replace(source=state.source + 1)
                yield f"S{i} the source changes", changed.going(i, step=1, value=state.source + 1)
            case 1:
                written = self._voided(state) if self.has(Guard.WRITE_TAKES_LEASE) else state
                written = self._tracked(written._replace(data=me.value))
                if self.has(Guard.WRITE_ANNOUNCES):
                    written = self._publish(written, i)
                yield f"S{i} write.lua: {me.value}", written.going(i, step=2)
            case 2:
                assert me.value is not None
                known = max(me.value, state.nodes[me.node].acknowledged)
                after = self._forget(state, me.node).at(me.node, acknowledged=known)
                yield f"S{i} own_l1", after.going(i, step=DONE, value=None)

    def _delete_and_publish(self, state: State, i: int) -> State:
        return self._publish(self._delete(state, i), i)

    def _delete(self, state: State, _i: int) -> State:
        if self.has(Guard.INVALIDATION_TAKES_LEASE):
            state = self._voided(state)
        return self._tracked(state._replace(data=None)) if state.data is not None else state

    def _publish(self, state: State, i: int) -> State:
        state = state._replace(sequence=state.sequence + 1, offset=state.offset + 1)
        if i >= 0:
            number = state.processes[i].node
            state = state.at(number, newer=True, acknowledgements=state.nodes[number].acknowledgements + 1)
        return self._sent(state, ("message", state.sequence))

    def _own_l1(self, state: State, i: int) -> State:
        return self._forget(state, state.processes[i].node)

    def _pattern(self, state: State, i: int, me: Process) -> Steps:
        """`invalidate_matching`: the scans are steps of their own."""
        scans = ["leases", "values"] if self.has(Guard.LEASES_FIRST) else ["values", "leases"]
        step = me.step
        match step:
            case 0:
                changed = state._replace(source=state.source + 1)
                yield f"P{i} the source changes", changed.going(i, step=1, value=state.source + 1)
            case 1 | 2 if scans[step - 1] == "leases":
                yield f"P{i} _delete_matching: leases", self._voided(state).going(i, step=step + 1)
            case 1 | 2:
                gone = self._tracked(state._replace(data=None)) if state.data is not None else state
                yield f"P{i} _delete_matching: values", gone.going(i, step=step + 1)
            case 3:
                yield f"P{i} _announce", self._publish(state, i).going(i, step=4)
            case 4:
                assert me.value is not None
                after = self._forget(state, me.node).at(me.node, acknowledged=me.value)
                yield f"P{i} _forget_matching", after.going(i, step=DONE, value=None)

    def _by_hand(self, state: State, i: int, me: Process) -> Steps:
        if me.step == 0:
            changed = state._replace(source=state.source + 1)
            yield f"{me.kind}{i} the source changes", changed.going(i, step=1)
        elif me.kind == "U":
            yield f"U{i} PUBLISH", self._sent(state, ("plain",)).going(i, step=DONE)
        elif me.kind == "D":
            gone = self._tracked(state._replace(data=None)) if state.data is not None else state
            yield f"D{i} DEL", gone.going(i, step=DONE)
        else:
            gone = state._replace(data=None, sequence=0)
            if self.has(Guard.FLUSH_TAKES_LEASE):
                gone = self._voided(gone)
            yield f"F{i} FLUSHDB", self._sent(gone, ("flushed",)).going(i, step=DONE)

    # Listen

    def _listener(self, state: State, number: int) -> Steps:
        node = state.nodes[number]
        for place, frame in enumerate(node.stream):
            rest = node.stream[:place] + node.stream[place + 1 :]
            yield f"worker {number} hears {frame}", self._handle(state.at(number, stream=rest), number, frame)
            if state.losses and frame[0] == "message":
                lost = state.at(number, stream=rest)._replace(losses=state.losses - 1)
                yield f"worker {number} never hears {frame}", lost
            if not self._scenario.reordering:
                break
        if node.attempted:
            kept = node.pending != node.attempted and self.has(Guard.DONE_AS_SEEN)
            after = state.at(number, attempted=0, pending=node.pending if kept else 0)
            yield f"worker {number} has carried out request {node.attempted}", after
        elif node.pending:
            begun = state.at(number, attempted=node.pending)
            yield f"worker {number} carries out request {node.pending}", self._delete_and_publish(begun, -1)
            if state.failures:
                failed = state._replace(failures=state.failures - 1)
                if not self.has(Guard.RETRY):
                    failed = failed.at(number, pending=0)
                yield f"worker {number} fails to carry out request {node.pending}", failed
        if node.to_verify is not None and node.subscribed:
            asked = state.at(number, to_verify=None)
            yield (
                f"worker {number} verify: MGET {state.data}",
                self._append(asked, number, ("compared", state.data, node.to_verify)),
            )

    def _handle(self, state: State, number: int, frame: tuple[Any, ...]) -> State:
        node = state.nodes[number]
        match frame:
            case ("message" | "other" as kind, sequence):
                return self._on_message(state, number, sequence, of_this_key=kind == "message")
            case ("plain",):
                heard = node.requests + 1
                asked = state.at(number, requests=heard, pending=0 if node.covered else heard, covered=False)
                return self._forget(asked, number)
            case ("flushed",):
                return self._forget(state, number)
            case ("changed",):
                state = self._marked(state, number, suspected=True)
                held = node.l1 is not None and self.has(Guard.VERIFY_HELD)
                return state.at(number, to_verify=node.l1) if held else state
            case ("compared", value, entry):
                differs = entry[0] != value and node.l1 == entry
                return state.at(number, l1=None) if differs else state
            case ("beat", sequence, report):
                return self._on_beat(state, number, sequence, report)
        raise AssertionError(frame)

    def _on_message(self, state: State, number: int, sequence: int, *, of_this_key: bool) -> State:
        node = state.nodes[number]
        state = state.at(number, newer=True)
        if node.confirmed and sequence > node.sequence + 1 and self.has(Guard.SEQUENCE):
            state = self._forget(state, number)
        state = state.at(number, sequence=max(sequence, node.sequence))
        if not of_this_key:
            return state
        state = state.at(number, pending=0)
        if not self.has(Guard.COVERED_FROM_BEHIND):
            state = state.at(number, covered=True)
        return self._forget(state, number)

    def _on_beat(self, state: State, number: int, sequence: int, report: tuple[int, int, int, int]) -> State:
        node = state.nodes[number]
        history, offset, switched_at, acknowledgements = report
        replaced = history != node.history and (node.newer or switched_at < node.offset)
        regressed = not node.confirmed and sequence < node.sequence
        if (replaced and self.has(Guard.HISTORY)) or (regressed and self.has(Guard.SEQUENCE)):
            state = self._publish(self._delete(state, -1), -1)  # `Recovery` empties L2
        newer = self.has(Guard.ACKNOWLEDGED_IS_NEWER) and acknowledgements != node.acknowledgements
        state = state.at(number, history=history, offset=offset, newer=newer)
        if not node.confirmed:
            state = state.at(number, confirmed=True, sequence=sequence)
            return self._forget(state, number) if self.has(Guard.FLUSH_AFTER_CONFIRMATION) else state
        if sequence != node.sequence and self.has(Guard.SEQUENCE):
            state = self._forget(state, number)
        return state.at(number, sequence=sequence)

    def _reconnect(self, state: State, i: int, me: Process) -> Steps:
        match me.step:
            case 0:
                cut = state.at(me.node, stream=(), subscribed=False, confirmed=False, to_verify=None)
                yield f"worker {me.node} _disconnect", cut.going(i, step=1)
            case 1:
                flushed = state if self.has(Guard.FLUSH_AFTER_CONFIRMATION) else self._forget(state, me.node)
                yield f"worker {me.node} connects", flushed.going(i, step=2)
            case 2:
                heard = state.at(me.node, subscribed=True)
                yield f"worker {me.node} SUBSCRIBE, GET", self._asked(heard, me.node).going(i, step=DONE)

    def _failover(self, state: State, i: int, me: Process) -> Steps:
        """The replica stops following, and takes over later; both workers connect to it, in either order."""
        match me.step:
            case 0:
                behind = (state.data, state.sequence, state.offset)
                yield f"X{i} the replica stops following", state._replace(replica=behind).going(i, step=1)
            case 1:
                assert state.replica is not None
                data, sequence, offset = state.replica
                new = self._voided(state)._replace(
                    data=data, sequence=sequence, offset=offset, switched_at=offset, history=1, replica=None
                )
                for number in (0, 1):
                    new = new.at(number, stream=(), subscribed=False, confirmed=False, to_verify=None)
                yield f"X{i} the replica takes over", new.going(i, step=2)
            case 2 | 3:
                number = me.node if me.step == 2 else 1 - me.node
                heard = self._asked(state.at(number, subscribed=True), number)
                yield f"worker {number} SUBSCRIBE, GET", heard.going(i, step=3 if me.step == 2 else DONE)

    def _heartbeat(self, state: State, i: int, me: Process) -> Steps:
        yield f"worker {me.node} sends a heartbeat", self._asked(state, me.node).going(i, step=DONE)

    def _other_key(self, state: State, i: int, _me: Process) -> Steps:
        counted = state._replace(sequence=state.sequence + 1, offset=state.offset + 1)
        yield (
            f"O{i} invalidate.lua: another key",
            self._sent(counted, ("other", counted.sequence)).going(i, step=DONE),
        )

    def _asked(self, state: State, number: int) -> State:
        return self._append(state, number, ("beat", state.sequence, self._report(state, number)))

    def _report(self, state: State, number: int) -> tuple[int, int, int, int]:
        acknowledgements = state.nodes[number].acknowledgements
        return state.history, state.offset, state.switched_at, acknowledgements

    def at_rest(self, state: State) -> State:
        """What a heartbeat does in each worker once nothing else is left to happen."""
        for number in (0, 1):
            if state.nodes[number].confirmed:
                state = self._on_beat(state, number, state.sequence, self._report(state, number))
        return state

    # What many steps have in common

    def _forget(self, state: State, number: int) -> State:
        """`_forget`, `_forget_all`: L1, the fence of every reader under way, and the loads nobody may join."""
        state = self._marked(state.at(number, l1=None), number, fenced=True)
        return state.at(number, flight=None) if self.has(Guard.DETACH) else state

    def _voided(self, state: State) -> State:
        """The lease goes, and nobody who began under it may fill."""
        for index, process in enumerate(state.processes):
            if process.fence is not None:
                state = state.going(index, voided=True)
        return state._replace(lease=None)

    def _marked(self, state: State, number: int, **mark: bool) -> State:
        for index, process in enumerate(state.processes):
            if process.kind in "RA" and process.node == number and 0 < process.step < DONE:
                state = state.going(index, **mark)
        return state

    def _tracked(self, state: State) -> State:
        """The server tells of a change, once for changes that follow each other."""
        return self._sent(state, ("changed",)) if self._scenario.tracking else state

    def _sent(self, state: State, frame: tuple[Any, ...]) -> State:
        for number in (0, 1):
            state = self._append(state, number, frame)
        return state

    def _append(self, state: State, number: int, frame: tuple[Any, ...]) -> State:
        node = state.nodes[number]
        if not node.subscribed or node.stream[-1:] == (frame,) == (("changed",),):
            return state
        return state.at(number, stream=(*node.stream, frame))


def _stale_at_rest(state: State) -> bool:
    held = [state.data, *(node.l1[0] if node.l1 else None for node in state.nodes)]
    return any(value not in (None, state.source) for value in held)


def explore(scenario: Scenario, without: Iterable[Guard] = ()) -> tuple[list[str] | None, int]:
    """The shortest way to a bad state (None: there is none), and how many states were seen."""
    protocol = Protocol(scenario, without)
    first = scenario.initial()
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    waiting = deque([first])
    while waiting:
        state = waiting.popleft()
        following = list(protocol.steps(state))
        if (
            state.served_too_old
            or state.stalled
            or (not following and _stale_at_rest(protocol.at_rest(state)))
        ):
            return _way(came_from, state), len(came_from)
        for label, after in following:
            if after not in came_from:
                came_from[after] = (state, label)
                waiting.append(after)
    return None, len(came_from)


def _way(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    labels: list[str] = []
    while (step := came_from[state]) is not None:
        state, label = step
        labels.append(label)
    return labels[::-1]
