"""One node of a cluster fails, lags behind, moves or is new: its keys are affected, and no others."""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import MovedError, NoPermissionError

from servease_appt.cache import CacheUnavailable, connect
from servease_appt.cache import Source as From
from servease_appt.cache.errors import L2Unavailable
from servease_appt.cache.l2 import exchange as exchange_module
from servease_appt.cache.l2.exchange import exchange, read_many
from servease_appt.cache.l2.nodes import Nodes
from servease_appt.cache.l2.protocol import LeaseState
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.cluster_setup import SLOTS, ClusterSetup
from tests.cache.testbed import (
    CODECS,
    PREFIX,
    Cache,
    Source,
    eventually,
    held_in_l1,
    listening,
    monkeypatch,
    policy,
    settle,
)

SEQUENCE = f"{PREFIX}:__seq"
TIMEOUT_S = 1.0
KEYS = [f"{kind}_{n}" for kind in ("customer", "vehicle", "employee") for n in range(20)]


@pytest.fixture(scope="module")
def setup() -> Iterator[ClusterSetup]:
    """A cluster; each test leaves it whole."""
    with ClusterSetup(spares=1) as setup:
        yield setup


def all_heard(cache: Cache) -> Cache:
    """The cache, once it listens to every node."""
    listening(cache)
    eventually(lambda: cache.l2.node_of(KEYS[0]), "the topology")
    eventually(lambda: _hears_all(cache), "the connections to all nodes")
    return cache


def _hears_all(cache: Cache) -> bool:
    """Whether every node has answered, asked at once and not with the next heartbeat."""
    settle(cache)
    return not cache.l2.unheard_nodes


@pytest.fixture
def worker(setup: ClusterSetup) -> Iterator[Cache]:
    """A worker that listens to every node, on an empty cluster."""
    for node in setup.primaries():
        setup.do(node, "FLUSHALL")
    cache = Cache(connect(setup.url(), timeout_s=TIMEOUT_S), CODECS, prefix=PREFIX, owns_client=True)
    yield all_heard(cache)
    cache.close()


def on(setup: ClusterSetup, node: EmbeddedValkey) -> list[str]:
    """The keys whose primary is `node`."""
    owners = setup.owners([f"{PREFIX}:{key}" for key in KEYS])
    return [key for key, owner in zip(KEYS, owners, strict=True) if owner is node]


def hears(worker: Cache, key: str) -> bool:
    """Whether the worker has a confirmed connection to the key's node."""
    name, listener = worker.l2.node_of(key), worker._process.listener
    channel: Any = listener._channel
    link = None if channel is None else channel._links.get(name)
    return link is not None and link.confirmed and name not in worker.l2.unheard_nodes


def data_node(setup: ClusterSetup) -> EmbeddedValkey:
    """A primary with many keys that does not have the sequence."""
    owners = setup.owners([SEQUENCE, *(f"{PREFIX}:{key}" for key in KEYS)])
    counted = Counter(owner for owner in owners if owner is not owners[0])
    return max(counted, key=counted.__getitem__)


def test_the_history_of_every_node_is_known_with_tracking_off(setup: ClusterSetup) -> None:
    """No node answers a request for tracking then. Seen to fail: no other node was ever confirmed."""
    client, off = connect(setup.url(), timeout_s=TIMEOUT_S), policy(tracking=False)
    with closing(Cache(client, CODECS, prefix=PREFIX, policy=off, owns_client=True)) as cache:
        seen: Any = all_heard(cache)._process.listener._heartbeat.histories._seen
        eventually(lambda: len(seen) == len(setup.primaries()), "the reports of all nodes")


def test_a_node_that_lost_invalidations_is_emptied_and_the_others_serve_on(
    setup: ClusterSetup, worker: Cache, source: Source
) -> None:
    """The sequence is on another node and shows nothing. Seen to fail: the old value stayed until L2's TTL.

    Nor is it read before the node's history is compared. Seen to fail: it was, for a second.
    """
    lagging = data_node(setup)
    replica = setup.add_replica(lagging)
    lost, *_ = there = on(setup, lagging)
    elsewhere = [key for key in KEYS if key not in there]
    for key in KEYS:
        source.put(key)
    worker.get_many(KEYS, source.load)
    with redis.Redis(port=replica.port) as client:
        client.execute_command("READONLY")
        eventually(lambda: client.get(f"{PREFIX}:{lost}"), "the replication")
        client.config_set("masterauth", "wrong")
    setup.do(lagging, "CLIENT", "KILL", "TYPE", "replica")
    new = source.put(lost)
    worker.invalidate([lost])
    settle(worker)

    lagging.kill()
    eventually(partial(setup.is_primary, replica), "the promotion", timeout_s=20)

    def heard_without_an_old_value() -> bool:
        heard = worker.l2.node_of(lost).endswith(str(replica.port)) and hears(worker, lost)
        worker.l1.flush()
        assert worker.get(lost, source.load) == new, "a value of a node whose history was not compared"
        return heard

    eventually(heard_without_an_old_value, "the connection to the new primary")
    eventually(lambda: not worker.l2.old_nodes, "the emptied node")
    nodes = worker.l2._nodes  # type: ignore[attr-defined]
    eventually(lambda: not nodes.not_compared, "the use of the new primary")

    worker.l1.flush()
    assert worker.get(lost, source.load) == new
    fresh = worker.get_many(elsewhere, source.load)
    assert set(fresh.sources.values()) <= {From.L2}
    assert all(source.loads[key] == 1 for key in elsewhere)


def test_a_node_without_a_successor_takes_its_own_keys_away_only(
    setup: ClusterSetup, worker: Cache, source: Source
) -> None:
    """Two thirds stay in both tiers. Seen to fail: every page asked the source, and L1 was not trusted."""
    gone = data_node(setup)
    there = on(setup, gone)
    elsewhere = [key for key in KEYS if key not in there]
    for key in KEYS:
        source.put(key)
    worker.get_many(KEYS, source.load)
    for node in [*setup.replicas(gone), gone]:
        node.kill()
    eventually(lambda: worker.l2.unheard_nodes, "the loss of the node")
    worker.get_many(KEYS, source.load)

    began_s = time.monotonic()
    page = worker.get_many(KEYS, source.load)
    assert time.monotonic() - began_s < TIMEOUT_S, "the page waited for the node"
    assert page.values.keys() == set(KEYS)
    assert None not in page.values.values()
    assert all(source.loads[key] == 1 for key in elsewhere)
    assert worker.l1.is_trusted()
    assert all(held_in_l1(worker, key) is not None for key in elsewhere)
    new = source.put(elsewhere[0])
    worker.invalidate([elsewhere[0]])
    assert worker.get(elsewhere[0], source.load) == new
    with pytest.raises(CacheUnavailable):
        worker.invalidate([there[0]])
    eventually(lambda: held_in_l1(worker, there[0]) is None, "the end of the short lifetime", timeout_s=2)

    gone.restart()
    eventually(partial(setup.is_primary, gone), "the node", timeout_s=20)
    eventually(lambda: hears(worker, there[0]), "its messages")
    assert worker.get(there[0], source.load) is not None


def test_a_frozen_node_is_noticed(setup: ClusterSetup, worker: Cache, source: Source) -> None:
    """Its connections stay open and nothing is answered; its values leave L1, and come back afterwards."""
    frozen = data_node(setup)
    key = on(setup, frozen)[0]
    source.put(key)
    worker.get(key, source.load)
    frozen.pause()
    try:
        worker.l1.flush()
        began_s = time.monotonic()
        worker.get_many(KEYS, source.load)
        assert time.monotonic() - began_s < 2 * TIMEOUT_S, "the page waited for the node more than once"
        eventually(lambda: worker.l2.unheard_nodes, "the loss of the node", timeout_s=4)
        assert worker.l1.is_trusted()
        eventually(lambda: held_in_l1(worker, key) is None, "the end of the short lifetime", timeout_s=2)
    finally:
        frozen.resume()
    eventually(lambda: not worker.l2.unheard_nodes, "the node")


def test_a_promoted_replica_is_heard_and_a_planned_failover_refuses_no_invalidation(
    setup: ClusterSetup, worker: Cache, source: Source
) -> None:
    """A DEL by hand on the new primary reaches L1. Seen to fail: the demoted node was listened to for ever."""
    old = data_node(setup)
    replica = setup.add_replica(old)
    key = on(setup, old)[0]
    setup.do(replica, "CLUSTER", "FAILOVER")
    patient = Cache(
        connect(setup.url(), timeout_s=5.0), CODECS, prefix=PREFIX, listen=False, owns_client=True
    )
    while not setup.is_primary(replica):
        patient.invalidate([key])
    patient.invalidate([key])
    patient.close()
    eventually(lambda: worker.l2.node_of(key).endswith(str(replica.port)), "the new topology")
    eventually(lambda: hears(worker, key), "the connection to the new primary")
    eventually(lambda: not worker.l2.old_nodes, "the emptied node")
    source.put(key)
    worker.get(key, source.load)
    new = source.put(key)
    setup.do(replica, "DEL", f"{PREFIX}:{key}")
    eventually(lambda: worker.get(key, source.load) == new, "the new value", timeout_s=2)


def test_a_slot_that_moves_to_a_new_node(setup: ClusterSetup, worker: Cache, source: Source) -> None:
    """While it moves, other keys are not affected, and invalidations are taken; the new node is heard at the end.

    Seen to fail: a whole page went to the source, and invalidations were refused.
    """
    old, target = data_node(setup), setup.add_node()
    moving, other = on(setup, old)[:2]
    name = f"{PREFIX}:{moving}"
    slot = key_slot(name.encode())
    for key in (moving, other):
        source.put(key)
    worker.get_many([moving, other], source.load)
    old_id, target_id = (setup.do(node, "CLUSTER", "MYID").decode() for node in (old, target))
    setup.do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
    setup.do(old, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    new = source.put(moving)
    worker.invalidate([moving])
    assert worker.get(moving, source.load) == new
    worker.l1.flush()
    page = worker.get_many([moving, other], source.load)
    assert page.values[moving] == new
    assert page.sources[other] is From.L2
    for found in setup.do(old, "CLUSTER", "GETKEYSINSLOT", slot, 10):
        setup.do(old, "MIGRATE", "127.0.0.1", target.port, found.decode(), 0, 5000)
    newer = source.put(moving)
    worker.invalidate([moving])
    assert worker.get(moving, source.load) == newer
    for node in dict.fromkeys([target, old, *setup.primaries()]):
        setup.do(node, "CLUSTER", "SETSLOT", slot, "NODE", target_id)

    eventually(lambda: worker.l2.node_of(moving).endswith(str(target.port)), "the new topology")
    eventually(lambda: hears(worker, moving), "the connection to the new node")
    assert not worker.l2.old_nodes
    worker.invalidate([moving])
    worker.get(moving, source.load)
    source.put(moving)
    settle(worker)
    setup.do(target, "SET", name, json.dumps({"id": moving.partition("_")[2], "version": 77}))
    eventually(lambda: worker.get(moving, source.load).version == 77, "the new value", timeout_s=2)  # type: ignore[union-attr]


@pytest.mark.parametrize("id_", ["{a}b", "a{b", "a}b", "{}b", "}{", "a{b}c{d}", "{{x}}"])
def test_keys_with_braces(id_: str, worker: Cache, source: Source) -> None:
    """All names of an entry are in the slot of its value. Seen to fail: neither cached nor invalidated."""
    key = f"customer_{id_}"
    source.put(key)
    worker.get(key, source.load)
    worker.l1.flush()
    assert worker.get_many([key], source.load).sources == {key: From.L2}
    new = source.put(key)
    worker.invalidate([key])
    assert worker.get(key, source.load) == new
    newer = source.put(key)
    worker.invalidate_matching("customer_*")
    assert worker.get(key, source.load) == newer
    names = worker.l2.keys.group(key)  # type: ignore[attr-defined]
    assert len({key_slot(name.encode()) for name in names}) == 1


def test_a_fork_while_the_topology_is_read(setup: ClusterSetup) -> None:
    """A child inherits locks that no thread of its own will release. Seen to fail: it hung."""
    client: Any = connect(setup.url(), timeout_s=1.0)
    client.client()
    with client.nodes._lock, client._lock:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if exchange(client.nodes, [("a", ("GET", "a"))]) == [None] and client.ping() else 2
            finally:
                os._exit(status)
    killer = threading.Timer(10, os.kill, (child, 9))
    killer.start()
    _, status = os.waitpid(child, 0)
    killer.cancel()
    client.close()
    assert status == 0


def test_polls_of_a_lease_compare_the_sequence(setup: ClusterSetup, worker: Cache) -> None:
    """A sequence that went back shows lost invalidations, whatever command reads it."""
    worker.invalidate(["customer_1"])
    settle(worker)
    (owner,) = setup.owners([SEQUENCE])
    setup.do(owner, "SET", SEQUENCE, 5)
    with pytest.raises(L2Unavailable):
        worker.l2.acquire(["customer_77"], "a", 1000)
    assert worker._process.recovery.l2_is_old


def test_nothing_is_announced_before_it_is_deleted(
    setup: ClusterSetup, worker: Cache, source: Source
) -> None:
    """A worker that heard too early would read the old value again, and keep it."""
    node = data_node(setup)
    (owner,) = setup.owners([SEQUENCE])
    worker.invalidate(["customer_1"])
    before = setup.do(owner, "GET", SEQUENCE)
    node.pause()
    try:
        with pytest.raises(CacheUnavailable):
            worker.invalidate([on_port(worker, node)])
    finally:
        node.resume()
    assert setup.do(owner, "GET", SEQUENCE) == before
    eventually(lambda: hears(worker, on_port(worker, node)), "the node")


def on_port(worker: Cache, node: EmbeddedValkey) -> str:
    """A key of a node, as the worker knows the topology: a paused node can't be asked."""
    return next(key for key in KEYS if worker.l2.node_of(key).endswith(f":{node.port}"))


def test_an_entry_that_cannot_be_compared_is_dropped(worker: Cache, source: Source) -> None:
    """Its key has changed, and L2 does not say to what. Seen to fail: a cached absence stayed."""
    key, absent = KEYS[0], "customer_nobody"
    source.put(key)
    worker.get_many([key, absent], source.load)
    entries = worker.l1.held([key, absent])
    assert entries.keys() == {key, absent}
    monkeypatch(worker.l2, "read", _no_answer)
    worker._process.keeper.verify(entries)
    eventually(lambda: not worker.l1.held([key, absent]), "the drop", timeout_s=3)


def _no_answer(_keys: object) -> Any:
    raise L2Unavailable("no answer")


def test_values_of_a_node_that_is_not_heard_live_for_a_second(worker: Cache, source: Source) -> None:
    """L2 has them and nobody says when they change. The values of the other nodes live on."""
    name = worker.l2.node_of(KEYS[0])
    worker.l2.unheard_nodes.add(name)
    for key in KEYS:
        source.put(key)
    worker.get_many(KEYS, source.load)
    lives_s = {key: entry.expires_at_s - entry.loaded_at_s for key, entry in worker.l1.held(KEYS).items()}
    assert {key for key, life_s in lives_s.items() if life_s <= 1.0} == {
        key for key in KEYS if worker.l2.node_of(key) == name
    }


@pytest.fixture
def nodes(setup: ClusterSetup, timeout_s: float) -> Iterator[Nodes]:
    """The nodes as a client with a timeout knows them, with a connection to each."""
    client: Any = connect(setup.url(), timeout_s=timeout_s)
    eventually(lambda: _all_answer(client.nodes), "an answer of every node", timeout_s=20)
    yield client.nodes
    client.close()


def _all_answer(nodes: Nodes) -> bool:
    return not any(isinstance(answer, Exception) for answer in read_many(nodes, KEYS))


@pytest.mark.parametrize("timeout_s", [0.5])
def test_nodes_that_do_not_answer_cost_one_timeout_together(
    setup: ClusterSetup, nodes: Nodes, timeout_s: float
) -> None:
    """All were asked at the same time. Seen to fail: two frozen nodes cost two timeouts, one after the other."""
    frozen = [node for node, _ in Counter(setup.owners(KEYS)).most_common(2)]
    for node in frozen:
        node.pause()
    try:
        began_s = time.monotonic()
        answers = read_many(nodes, KEYS)
        took_s = time.monotonic() - began_s
    finally:
        for node in frozen:
            node.resume()
    failed = [isinstance(answer, Exception) for answer in answers]
    slow = [str(nodes.at(("127.0.0.1", node.port)).breaker.state) for node in frozen]
    assert any(failed)
    assert not all(failed)
    assert slow == ["open", "open"]
    assert took_s < 1.9 * timeout_s


@pytest.mark.parametrize("timeout_s", [2.0])
def test_a_connection_that_the_server_closed_is_made_anew(setup: ClusterSetup, nodes: Nodes) -> None:
    """It costs no page an answer. Seen to fail without the look at the connection: every node failed once."""
    for node in setup.primaries():
        setup.do(node, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert _all_answer(nodes)


@pytest.mark.parametrize("timeout_s", [2.0])
def test_a_connection_whose_answers_were_not_read_gives_them_to_nobody(
    setup: ClusterSetup, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is interrupted while it waits. Seen to fail: the next command had the answer of the last one."""
    primary = Counter(setup.owners(KEYS)).most_common(1)[0][0]
    a, b = [key for key, owner in zip(KEYS, setup.owners(KEYS), strict=True) if owner is primary][:2]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    exchange(nodes, [(a, ("SET", a, "1")), (b, ("SET", b, "2"))])
    primary.pause()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(exchange_module, "read_values", interrupted)
            with pytest.raises(KeyboardInterrupt):
                read_many(nodes, [a])
        resumed = threading.Timer(0.1, primary.resume)
        resumed.start()
        answers = read_many(nodes, [b])
        resumed.join()
    finally:
        primary.resume()
    assert answers == [b"2"]


@pytest.mark.parametrize("timeout_s", [2.0])
def test_a_redirection_leads_to_no_node_whose_history_was_not_compared(
    setup: ClusterSetup, nodes: Nodes
) -> None:
    """It may lack invalidations; a later topology has named it first."""
    here, there = (name_of(node) for node, _ in Counter(setup.owners(KEYS)).most_common(2))
    moved = [key for key in KEYS if nodes.slots[key_slot(key.encode())] is nodes.at(there)]
    nodes.slots = [nodes.at(here)] * SLOTS
    nodes.compared = True
    assert read_many(nodes, moved) == [None] * len(moved)
    nodes.slots = [nodes.at(here)] * SLOTS
    nodes.not_compared.add(nodes.at(there).name)
    assert {type(answer) for answer in read_many(nodes, moved)} == {MovedError}


def name_of(node: EmbeddedValkey) -> tuple[str, int]:
    """The address of a node as its client knows it."""
    return "127.0.0.1", node.port


def test_values_of_a_node_that_lost_invalidations_are_not_read_until_it_is_empty(
    setup: ClusterSetup, worker: Cache, source: Source
) -> None:
    """The others are."""
    for key in KEYS:
        source.put(key)
    worker.get_many(KEYS, source.load)
    other = Cache(
        connect(setup.url(), timeout_s=TIMEOUT_S), CODECS, prefix=PREFIX, listen=False, owns_client=True
    )
    with closing(other):
        assert None not in other.l2.read(KEYS)[0]
        name = other.l2.node_of(KEYS[0])
        there = {key for key in KEYS if other.l2.node_of(key) == name}
        other.l2.old_nodes.add(name)
        assert {
            key for key, value in zip(KEYS, other.l2.read(KEYS)[0], strict=True) if value is None
        } == there
        other.l2.empty_node(name, "test")
        assert not other.l2.old_nodes
        assert {
            key for key, value in zip(KEYS, other.l2.read(KEYS)[0], strict=True) if value is None
        } == there


def test_a_repeated_request_for_a_lease_finds_its_own(worker: Cache) -> None:
    """A command may be repeated after a redirection that the first node carried out all the same."""
    first, second = (worker.l2.acquire(["customer_88"], "token", 1000)[0] for _ in range(2))
    assert (first.state, second.state) == (LeaseState.GRANTED, LeaseState.GRANTED)
    assert worker.l2.acquire(["customer_88"], "another", 1000)[0].state is LeaseState.HELD


def test_a_node_that_reports_to_be_a_replica_is_left(setup: ClusterSetup, worker: Cache) -> None:
    """Whatever its answer to the heartbeat's write says."""
    channel: Any = worker._process.listener._channel
    link = next(iter(channel._links.values()))
    with redis.Redis(port=link.node.address[1]) as client:
        untyped: Any = client
        client.set_response_callback("INFO", lambda raw: raw)
        report = untyped.execute_command("INFO", "REPLICATION")
    assert b"role:master" in report
    with pytest.raises(redis.ConnectionError, match="not a primary"):
        channel._on_beat(link, 0, report.replace(b"role:master", b"role:slave"))


@pytest.mark.parametrize("timeout_s", [2.0])
def test_a_node_that_refuses_asking(setup: ClusterSetup, nodes: Nodes) -> None:
    """By an ACL. Each command has its own answer. Seen to fail: the second one had the answer of the first."""
    old = data_node(setup)
    target = next(node for node in setup.primaries() if node is not old)
    names = [f"{{{PREFIX}:{on(setup, old)[0]}}}{number}" for number in range(2)]
    slot = key_slot(names[0].encode())
    ids = {node: setup.do(node, "CLUSTER", "MYID").decode() for node in (old, target)}
    setup.do(target, "ACL", "SETUSER", "default", "-asking")
    setup.do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[old])
    setup.do(old, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    try:
        answers = exchange(nodes, [(name, ("GET", name)) for name in names])
    finally:
        for node in ids:
            setup.do(node, "CLUSTER", "SETSLOT", slot, "STABLE")
        setup.do(target, "ACL", "SETUSER", "default", "+asking")
    assert [type(answer) for answer in answers] == [NoPermissionError] * 2
