"""Faults of a primary and a replica under three sentinels."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from faults.experiment import Context, Fault, Step, nothing
from faults.testbed import LOOK_TIMEOUT_S, L2Reader, Testbed
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.sentinel_setup import SERVICE, SentinelSetup

PROMOTION_LIMIT_S = 40.0
"""A second failover waits for up to twice `failover-timeout` after the first."""
_SETTLE_LIMIT_S = 40.0
_LAG_S = 2.0
_PASSWORD = "of-servers"  # noqa: S105 - of servers that live for minutes
_ACCOUNT, _SECRET = "peer", "of-peers"
"""The account of sentinels and replica in a partition, which refuses it; the workers have the password alone."""
_GROUP = "Sentinel"
_ALL_NAMES = frozenset({"customer", "employee", "vehicle"})


class SentinelTestbed(Testbed):
    """The service with `REDIS_URL=redis+sentinel://…`: one primary, one replica, three sentinels."""

    look_pause_s = 0.1

    def _start_l2(self, stack: contextlib.ExitStack) -> None:
        directory = self.directory / "sentinels"
        directory.mkdir()
        self.setup = stack.enter_context(SentinelSetup(directory, password=_PASSWORD))
        self.redis_url = self.setup.url()

    def l2_reader(self) -> L2Reader:
        """Return a reader of the primary that the first sentinel names."""
        return _PrimaryReader(self.setup)


class _PrimaryReader:
    """Reads the primary that the first sentinel names at that moment."""

    def __init__(self, setup: SentinelSetup) -> None:
        self._setup = setup
        self._clients: dict[int, Any] = {}

    def mget(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Return the values. Raises redis-py's errors."""
        port = self._setup.primary_port()
        if port not in self._clients:
            self._clients[port] = redis.Redis(
                port=port,
                db=1,
                password=_PASSWORD,
                socket_timeout=LOOK_TIMEOUT_S,
                socket_connect_timeout=LOOK_TIMEOUT_S,
            )
        values: Sequence[bytes | None] = self._clients[port].mget(names)
        return values

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()


def _setup(context: Context) -> SentinelSetup:
    assert isinstance(context.testbed, SentinelTestbed)
    return context.testbed.setup


def _primary(setup: SentinelSetup) -> EmbeddedValkey:
    port = setup.primary_port()
    return next(server for server in setup.servers if server.port == port)


def _other(setup: SentinelSetup, server: EmbeddedValkey) -> EmbeddedValkey:
    return next(one for one in setup.servers if one is not server)


def _do(server: EmbeddedValkey, *command: str) -> Any:
    with redis.Redis(port=server.port, password=_PASSWORD, socket_timeout=5.0) as client:
        untyped: Any = client
        return untyped.execute_command(*command)


def _await_promotion(context: Context, old: EmbeddedValkey) -> None:
    """Wait until the sentinels name another primary. The run is not valid if they never do."""
    setup, began_s = _setup(context), time.monotonic()
    if not wait_until(lambda: setup.primary_port() != old.port, timeout_s=PROMOTION_LIMIT_S, interval_s=0.02):
        context.broken.append(f"no other primary was chosen within {PROMOTION_LIMIT_S:g} s")
    context.remarks.append(f"another primary after {time.monotonic() - began_s:.1f} s")


def _settle(context: Context) -> None:
    """Wait until both servers run, one replicates from the other, and the sentinels know that."""
    setup = _setup(context)
    if not wait_until(lambda: _is_settled(setup), timeout_s=_SETTLE_LIMIT_S, interval_s=0.1):
        context.broken.append(f"the servers were not a pair again after {_SETTLE_LIMIT_S:g} s")


def _is_settled(setup: SentinelSetup) -> bool:
    try:
        primary = _primary(setup)
        replica = _other(setup, primary)
        link = _do(replica, "INFO", "replication")
        states = [setup.ask(number, "SENTINEL", "REPLICAS", SERVICE) for number in range(3)]
        primaries = [setup.ask(number, "SENTINEL", "MASTER", SERVICE) for number in range(3)]
    except redis.RedisError:
        return False
    known = [_flags(replicas[0]) for replicas in states if replicas]
    return (
        link["role"] == "slave"
        and link["master_port"] == primary.port
        and link["master_link_status"] == "up"
        and known == ["slave"] * 3
        and [_flags(answer) for answer in primaries] == ["master"] * 3
    )


def _flags(answer: Any) -> str:
    """Return the flags of a server, as a sentinel reports them."""
    fields = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
    found = fields.get("flags", fields.get(b"flags", b""))
    if isinstance(found, set):
        return ",".join(sorted(found))
    return found.decode() if isinstance(found, bytes) else str(found)


def _replaced(fault: Callable[[EmbeddedValkey], object]) -> Step:
    """Do something to the primary and wait for another one."""

    def inject(context: Context) -> None:
        _settle(context)
        old = context.keep["old"] = _primary(_setup(context))
        fault(old)
        _await_promotion(context, old)

    return inject


def _restart(context: Context) -> None:
    context.keep["old"].restart()
    _settle(context)


def _resume(context: Context) -> None:
    context.keep["old"].resume()
    _settle(context)


def _fail_over(context: Context) -> None:
    _settle(context)
    setup = _setup(context)
    old = _primary(setup)
    if not wait_until(lambda: _accepts_failover(setup), timeout_s=PROMOTION_LIMIT_S, interval_s=0.5):
        context.broken.append("no failover was started")
    _await_promotion(context, old)


def _accepts_failover(setup: SentinelSetup) -> bool:
    try:
        setup.ask(0, "SENTINEL", "FAILOVER", SERVICE)
    except redis.ResponseError:  # one is under way, or the replica is not known to be good yet
        return False
    return True


def _lag_and_kill(context: Context) -> None:
    """Cut the replica off, let invalidations pass, then kill the primary: the replica has not got them."""
    _settle(context)
    old = context.keep["old"] = _primary(_setup(context))
    replica = _other(_setup(context), old)
    _do(replica, "CONFIG", "SET", "masterauth", "wrong")
    _do(old, "CLIENT", "KILL", "TYPE", "replica")
    context.load.stopping.wait(_LAG_S)
    behind = (
        _do(old, "INFO", "replication")["master_repl_offset"]
        - (_do(replica, "INFO", "replication")["slave_repl_offset"])
    )
    context.remarks.append(f"the replica was {behind} bytes behind")
    old.kill()
    _await_promotion(context, old)
    _do(replica, "CONFIG", "SET", "masterauth", _PASSWORD)


def _give_peers_an_account(context: Context) -> None:
    """Let sentinels and the replica log in under a name, so that they can be refused and the workers not."""
    setup = _setup(context)
    for server in setup.servers:
        _do(server, "ACL", "SETUSER", _ACCOUNT, "reset", "on", f">{_SECRET}", "~*", "&*", "+@all")
        _do(server, "CONFIG", "SET", "masteruser", _ACCOUNT)
        _do(server, "CONFIG", "SET", "masterauth", _SECRET)
    for number in range(3):
        setup.ask(number, "SENTINEL", "SET", SERVICE, "auth-user", _ACCOUNT, "auth-pass", _SECRET)
    _do(_primary(setup), "CLIENT", "KILL", "TYPE", "replica")


def _partition(context: Context) -> None:
    """Have the primary refuse sentinels and replica; the workers reach it as before."""
    _settle(context)
    _give_peers_an_account(context)
    _settle(context)
    old = context.keep["old"] = _primary(_setup(context))
    _do(old, "ACL", "SETUSER", _ACCOUNT, "off")
    _do(old, "CLIENT", "KILL", "USER", _ACCOUNT)
    _do(old, "CLIENT", "KILL", "TYPE", "replica")
    _await_promotion(context, old)


def _end_partition(context: Context) -> None:
    _do(context.keep["old"], "ACL", "SETUSER", _ACCOUNT, "on")
    _settle(context)


def _fault(name: str, what: str, inject: Step, heal: Step = nothing, l2_bound_ms: float = 5000) -> Fault:
    return Fault(
        name=f"sentinel-{name}",
        group=_GROUP,
        promise=f"{what}: no old value later than 2 s after its invalidation; all names are on all pages",
        inject=inject,
        heal=heal,
        l2_bound_ms=l2_bound_ms,
        present=_ALL_NAMES,
        failing=frozenset({"invalidate"}),
    )


FAULTS = (
    _fault("primary-killed", "the primary is killed", _replaced(lambda old: old.kill()), _restart),
    _fault("planned-failover", "`SENTINEL FAILOVER`", _fail_over),
    _fault(
        "primary-stopped",
        "the primary is frozen until another one has taken over, and then goes on as a primary",
        _replaced(lambda old: old.pause()),
        _resume,
    ),
    _fault(
        "replica-lags",
        "the primary is killed while its replica lacks invalidations",
        _lag_and_kill,
        _restart,
        l2_bound_ms=10_000,
    ),
    _fault(
        "partition",
        "sentinels and replica lose the primary, which goes on serving the workers",
        _partition,
        _end_partition,
    ),
)
