"""Faults of a cluster of three primaries with a replica each."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from faults.experiment import Context, Fault, Step, nothing
from faults.fleet.slots import move
from faults.testbed import LOOK_TIMEOUT_S, PREFIX, L2Reader, Testbed
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.cluster_setup import ClusterSetup

PROMOTION_LIMIT_S = 20.0
_SETTLE_LIMIT_S = 40.0
_LAG_S = 2.0
_SEQUENCE = f"{PREFIX}:__seq"
_GROUP = "Cluster"
_ALL_NAMES = frozenset({"customer", "employee", "vehicle"})


class ClusterTestbed(Testbed):
    """The service with `REDIS_URL=redis+cluster://…`: three primaries with a replica each."""

    look_pause_s = 0.1

    def _start_l2(self, stack: contextlib.ExitStack) -> None:
        self.setup = stack.enter_context(ClusterSetup())
        for primary in self.setup.primaries():
            self.setup.add_replica(primary)
        for node in self.setup.nodes:
            _stay_primary(self.setup, node)
        self.redis_url = self.setup.url()

    def l2_reader(self) -> L2Reader:
        """Return a reader of all nodes."""
        return NodesReader(self.setup.nodes)


def _stay_primary(setup: ClusterSetup, node: EmbeddedValkey) -> None:
    """Have a node remain a primary when its last slot leaves it, and a replica remain where it is."""
    setup.do(node, "CONFIG", "SET", "cluster-allow-replica-migration", "no")


class NodesReader:
    """Reads every name from every node; a node refuses the names that it does not own.

    `nodes` may change meanwhile.
    """

    def __init__(self, nodes: Sequence[EmbeddedValkey]) -> None:
        self._nodes = nodes
        self._clients: dict[str, Any] = {}

    def mget(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Return the values; None for names whose node does not answer."""
        found: dict[str, bytes] = {}
        for node in list(self._nodes):
            answers = zip(names, self._ask(node.url(0), names), strict=True)
            found |= {name: value for name, value in answers if isinstance(value, bytes)}
        return [found.get(name) for name in names]

    def _ask(self, url: str, names: Sequence[str]) -> Sequence[object]:
        if url not in self._clients:
            self._clients[url] = redis.Redis.from_url(
                url,
                socket_timeout=LOOK_TIMEOUT_S,
                socket_connect_timeout=LOOK_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        pipeline = self._clients[url].pipeline(transaction=False)
        for name in names:
            pipeline.get(name)
        try:
            answers: Sequence[object] = pipeline.execute(raise_on_error=False)
        except (redis.ConnectionError, redis.TimeoutError):
            return [None] * len(names)
        return answers

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()


def _setup(context: Context) -> ClusterSetup:
    assert isinstance(context.testbed, ClusterTestbed)
    return context.testbed.setup


def _names(context: Context) -> list[str]:
    dataset = context.testbed.dataset
    return [f"{PREFIX}:{dataset.cache_key(key)}" for key in dataset.versions]


def _owner_of_data(context: Context) -> EmbeddedValkey:
    """Return the primary with the most names among those that do not have the sequence."""
    owners = _setup(context).owners([_SEQUENCE, *_names(context)])
    counted = Counter(owner for owner in owners if owner is not owners[0])
    return max(counted, key=counted.__getitem__)


def _owner_of_sequence(context: Context) -> EmbeddedValkey:
    return _setup(context).owners([_SEQUENCE])[0]


def _await(context: Context, done: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Wait for an event. The run is not valid without it."""
    began_s = time.monotonic()
    if not wait_until(lambda: _without_error(done), timeout_s=timeout_s, interval_s=0.05):
        context.broken.append(f"no {what} within {timeout_s:g} s")
    elif timeout_s == PROMOTION_LIMIT_S:
        context.remarks.append(f"{what} after {time.monotonic() - began_s:.1f} s")


def _without_error(done: Callable[[], bool]) -> bool:
    try:
        return done()
    except redis.RedisError:
        return False


def _settle(context: Context) -> None:
    """Wait until every node knows three primaries with a replica each."""
    setup = _setup(context)
    _await(context, lambda: all(_sees_all(setup, node) for node in setup.nodes), "cluster", _SETTLE_LIMIT_S)


def _sees_all(setup: ClusterSetup, node: EmbeddedValkey) -> bool:
    primaries: dict[int, set[int]] = {}
    for _, _, first, *replicas in setup.do(node, "CLUSTER", "SLOTS"):
        primaries.setdefault(first[1], set()).update(server[1] for server in replicas)
    whole = len(primaries) == 3 and all(len(replicas) == 1 for replicas in primaries.values())
    linked = "slave" not in (state := setup.do(node, "ROLE"))[0].decode() or state[3] == b"connected"
    return whole and linked and b"cluster_state:ok" in setup.do(node, "CLUSTER", "INFO")


def _promoted(choose: Callable[[Context], EmbeddedValkey], fault: Callable[[EmbeddedValkey], object]) -> Step:
    """Do something to a primary and wait until its replica has taken over."""

    def inject(context: Context) -> None:
        setup = _setup(context)
        old = context.keep["old"] = choose(context)
        (replica,) = setup.replicas(old)
        fault(old)
        _await(context, partial(setup.is_primary, replica), "promotion", PROMOTION_LIMIT_S)

    return inject


def _restart(context: Context) -> None:
    context.keep["old"].restart()
    _settle(context)


def _resume(context: Context) -> None:
    context.keep["old"].resume()
    _settle(context)


def _fail_over(context: Context) -> None:
    setup = _setup(context)
    (replica,) = setup.replicas(_owner_of_data(context))
    setup.do(replica, "CLUSTER", "FAILOVER")
    _await(context, partial(setup.is_primary, replica), "promotion", PROMOTION_LIMIT_S)


def _lag_and_kill(context: Context) -> None:
    """Cut a replica off, let invalidations pass, then kill its primary: the replica has not got them."""
    setup = _setup(context)
    old = context.keep["old"] = _owner_of_data(context)
    (replica,) = setup.replicas(old)
    setup.do(replica, "CONFIG", "SET", "masterauth", "wrong")
    setup.do(old, "CLIENT", "KILL", "TYPE", "replica")
    context.load.stopping.wait(_LAG_S)
    old.kill()
    _await(context, partial(setup.is_primary, replica), "promotion", PROMOTION_LIMIT_S)
    setup.do(replica, "CONFIG", "SET", "masterauth", "")


def _kill_both(context: Context) -> None:
    """Kill a primary and its replica; the pages of the other nodes' names may not notice."""
    setup = _setup(context)
    old = _owner_of_data(context)
    gone = context.keep["gone"] = [old, *setup.replicas(old)]
    owners = setup.owners(_names(context))
    context.remarks.append(f"{owners.count(old)} of {len(owners)} names were on the node")
    for node in reversed(gone):
        node.kill()


def _restart_both(context: Context) -> None:
    for node in context.keep["gone"]:
        node.restart()
    _settle(context)


def _reshard(context: Context) -> None:
    """Move the slots of half of a primary's names to another primary."""
    setup, source = _setup(context), _owner_of_data(context)
    target = next(node for node in setup.primaries() if node is not source)
    _move_half(context, source, target)


def _move_half(context: Context, source: EmbeddedValkey, target: EmbeddedValkey) -> list[int]:
    setup, names = _setup(context), _names(context)
    owners = setup.owners(names)
    slots = sorted(
        {key_slot(name.encode()) for name, owner in zip(names, owners, strict=True) if owner is source}
    )
    half = slots[: len(slots) // 2]
    moved = move(setup, half, source, target, pause=context.load.stopping.wait)
    context.remarks.append(f"{len(half)} slots and {moved} keys moved")
    return half


def _add_node(context: Context) -> None:
    """Add a primary and move slots to it."""
    setup = _setup(context)
    source = context.keep["source"] = _owner_of_data(context)
    added = context.keep["added"] = setup.add_node()
    _stay_primary(setup, added)
    context.keep["slots"] = _move_half(context, source, added)


def _remove_node(context: Context) -> None:
    """Move the slots back and take the node out of the cluster."""
    setup, added = _setup(context), context.keep["added"]
    move(setup, context.keep["slots"], added, context.keep["source"], pause=context.load.stopping.wait)
    id_ = setup.do(added, "CLUSTER", "MYID").decode()
    setup.nodes.remove(added)
    for node in setup.nodes:
        setup.do(node, "CLUSTER", "FORGET", id_)
    added.stop()
    _settle(context)


def _fault(
    name: str,
    what: str,
    inject: Step,
    heal: Step = nothing,
    *,
    l2_bound_ms: float = 5000,
    recovers_ms: float = 5000,
) -> Fault:
    return Fault(
        name=f"cluster-{name}",
        group=_GROUP,
        promise=f"{what}: no old value later than 2 s after its invalidation; all names are on all pages",
        inject=inject,
        heal=heal,
        l2_bound_ms=l2_bound_ms,
        recovers_ms=recovers_ms,
        present=_ALL_NAMES,
        failing=frozenset({"invalidate"}),
    )


FAULTS = (
    _fault(
        "primary-killed",
        "a primary is killed and its replica takes over",
        _promoted(_owner_of_data, lambda old: old.kill()),
        _restart,
    ),
    _fault("reshard", "slots move from one primary to another", _reshard),
    _fault(
        "no-successor",
        "a primary and its replica are killed; they come back empty",
        _kill_both,
        _restart_both,
        recovers_ms=10_000,
    ),
    _fault(
        "primary-stopped",
        "a primary is frozen until its replica has taken over, and then goes on",
        _promoted(_owner_of_data, lambda old: old.pause()),
        _resume,
    ),
    _fault(
        "node-added-and-removed",
        "a primary joins, gets slots, gives them back and leaves",
        _add_node,
        _remove_node,
    ),
    _fault(
        "replica-lags",
        "a primary is killed while its replica lacks invalidations",
        _lag_and_kill,
        _restart,
        l2_bound_ms=10_000,
    ),
    _fault("planned-failover", "`CLUSTER FAILOVER`", _fail_over),
    _fault(
        "sequence-killed",
        "the primary that numbers the invalidations is killed",
        _promoted(_owner_of_sequence, lambda old: old.kill()),
        _restart,
    ),
)
