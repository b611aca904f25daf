"""Faults of the network between three hosts, each with a worker, a cluster's primary and another one's replica."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Self

import redis

from faults.experiment import Context, Fault, Step
from faults.fleet.cluster import NodesReader
from faults.fleet.host_servers import HostValkey, NetworkTestbed
from faults.fleet.hosts import invalidate_on
from faults.fleet.namespaces import Host
from faults.testbed import L2Reader
from servease_appt.testing.processes import wait_until
from tests.cache.cluster_setup import OPTIONS, SLOTS

PORT, REPLICA_PORT = 7000, 7001
BUS = "17000-17001"
_START_S = 40.0
_ALL_NAMES = frozenset({"customer", "employee", "vehicle"})


class ClusterHosts:
    """A primary on each host, and a replica of it on the next one. A context manager."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._stack = contextlib.ExitStack()
        self.nodes: list[HostValkey] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            start = stack.enter_context
            options = [*OPTIONS, "--cluster-allow-replica-migration", "no"]
            primaries = [start(HostValkey(host, PORT, options)) for host in self._hosts]
            turned = [*self._hosts[1:], self._hosts[0]]
            replicas = [start(HostValkey(host, REPLICA_PORT, options)) for host in turned]
            self.nodes = [*primaries, *replicas]
            self._join(primaries, replicas)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def url(self) -> str:
        """Return the URL that names the primaries."""
        return "redis+cluster://" + ",".join(f"{host.address}:{PORT}" for host in self._hosts)

    def is_whole(self) -> bool:
        """Return whether each node knows three primaries with a replica each, and all replicas are linked."""
        try:
            return all(_sees_all(node) for node in self.nodes)
        except redis.RedisError:
            return False

    def _join(self, primaries: Sequence[HostValkey], replicas: Sequence[HostValkey]) -> None:
        for number, node in enumerate(primaries):
            first, last = number * SLOTS // len(primaries), (number + 1) * SLOTS // len(primaries) - 1
            node.do("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.do("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.do("CLUSTER", "MEET", self._hosts[0].address, PORT)
        ids = [node.do("CLUSTER", "MYID").decode() for node in primaries]
        for node, of in zip(replicas, ids, strict=True):
            assert wait_until(partial(_knows, node, of), timeout_s=_START_S), "a node has not met another one"
            node.do("CLUSTER", "REPLICATE", of)
        assert wait_until(self.is_whole, timeout_s=_START_S, interval_s=0.1), "the cluster is not whole"


def _knows(node: HostValkey, id_: str) -> bool:
    return id_.encode() in node.do("CLUSTER", "NODES")


def _sees_all(node: HostValkey) -> bool:
    replicas = {tuple(first[:2]): len(others) for _, _, first, *others in node.do("CLUSTER", "SLOTS")}
    state = node.do("ROLE")
    linked = state[0] == b"master" or state[3] == b"connected"
    whole = sorted(replicas.values()) == [1, 1, 1]
    return whole and linked and b"cluster_state:ok" in node.do("CLUSTER", "INFO")


class HostsClusterTestbed(NetworkTestbed):
    """The service with `REDIS_URL=redis+cluster://…` and the cluster's nodes on the workers' hosts."""

    def _start_servers(self, stack: contextlib.ExitStack) -> None:
        self.setup = stack.enter_context(ClusterHosts(self.network.hosts))
        self.redis_url = self.setup.url()

    def l2_reader(self) -> L2Reader:
        """Return a reader of all nodes."""
        return NodesReader(self.setup.nodes)


def _testbed(context: Context) -> HostsClusterTestbed:
    assert isinstance(context.testbed, HostsClusterTestbed)
    return context.testbed


def _settle(context: Context) -> None:
    if not wait_until(_testbed(context).setup.is_whole, timeout_s=_START_S, interval_s=0.1):
        context.broken.append(f"the cluster was not whole again after {_START_S:g} s")


def _host(testbed: HostsClusterTestbed) -> Host:
    """Return a host with a primary; after a failover another host may have two."""
    node = next(node for node in testbed.setup.nodes if node.do("ROLE")[0] == b"master")
    return node.host


def _cut_off(*, ports: str = "", written: bool = False) -> Step:
    """Lose the packets between one host and the other two, and send invalidations to its worker if `written`."""

    def inject(context: Context) -> None:
        _settle(context)
        testbed = _testbed(context)
        host = _host(testbed)
        context.load.frozen |= {"customer"} if written else set()
        testbed.network.cut_off(host, ports=ports)
        context.keep["began_s"] = time.monotonic()
        if written:
            keys = [key for key in testbed.dataset.versions if key.startswith("c")]
            invalidate_on(context, testbed.slot_to(host), keys)
            context.load.frozen.discard("customer")

    return inject


def _heal(context: Context) -> None:
    _testbed(context).network.heal()
    _settle(context)


def _fault(name: str, what: str, inject: Step) -> Fault:
    return Fault(
        name=f"hosts-cluster-{name}",
        group="Hosts-Cluster",
        promise=f"{what}: no old value later than 2 s after its invalidation; all names are on all pages",
        inject=inject,
        heal=_heal,
        hold_s=8.0,
        l2_bound_ms=10_000,
        present=_ALL_NAMES,
        failing=frozenset({"invalidate"}),
        recovers_ms=10_000,
    )


FAULTS = (
    _fault(
        "bus-cut-off",
        "the nodes of one host lose the cluster's bus for 8 s, and clients reach all nodes",
        _cut_off(ports=BUS),
    ),
    _fault("cut-off", "a host is cut off from the others for 8 s", _cut_off()),
    _fault(
        "cut-off-written",
        "a host is cut off for 8 s, and is sent invalidations directly afterwards",
        _cut_off(written=True),
    ),
)
