"""Faults of the network between three hosts, each with a worker, a Valkey server and a sentinel."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from faults.experiment import Context, Fault, Step
from faults.fleet.host_servers import HostsTestbed, HostValkey
from faults.history import INVALIDATE, Operation
from faults.http_client import Slot
from servease_appt.testing.processes import wait_until

_SETTLE_LIMIT_S = 40.0
_WRITTEN = 10
_WRITING_S = 1.5
_ALL_NAMES = frozenset({"customer", "employee", "vehicle"})


def _testbed(context: Context) -> HostsTestbed:
    assert isinstance(context.testbed, HostsTestbed)
    return context.testbed


def _settle(context: Context) -> None:
    """Wait until the sentinels know one primary, and all others replicate from it."""
    if not wait_until(_testbed(context).setup.is_settled, timeout_s=_SETTLE_LIMIT_S, interval_s=0.1):
        context.broken.append(f"the servers were not as before after {_SETTLE_LIMIT_S:g} s")


def _primary(testbed: HostsTestbed) -> HostValkey:
    return testbed.setup.primary()


def _replica(testbed: HostsTestbed) -> HostValkey:
    primary = testbed.setup.primary()
    return next(server for server in testbed.setup.servers if server is not primary)


def _cut_off(choose: Callable[[HostsTestbed], HostValkey]) -> Step:
    """Lose all packets between the host of a server and the other two."""

    def inject(context: Context) -> None:
        _settle(context)
        testbed = _testbed(context)
        context.keep["old"] = testbed.setup.primary()
        testbed.network.cut_off(choose(testbed).host)
        context.keep["began_s"] = time.monotonic()

    return inject


def _cut_off_and_invalidate(context: Context) -> None:
    """Cut the primary's host off, and send invalidations to the worker beside the primary at once.

    Until that worker finds out, it and its primary would take them, and nobody else would hear of them.
    """
    context.load.frozen.add("customer")  # so that only this thread changes their versions
    _cut_off(_primary)(context)
    testbed = _testbed(context)
    keys = [key for key in testbed.dataset.versions if key.startswith("c")][:_WRITTEN]
    invalidate_on(context, testbed.slot_to(context.keep["old"].host), keys)
    context.load.frozen.discard("customer")


def invalidate_on(context: Context, slot: Slot, keys: Sequence[str]) -> None:
    """Announce newer versions of customers by one worker, for `_WRITING_S` at most."""
    dataset, taken = context.testbed.dataset, 0
    for key in keys:
        version = dataset.bump(key)
        body = json.dumps({"entity": "customer", "ids": [dataset.ids[key]]}).encode()
        answer = slot.ask("POST", "/cache/invalidate/", body)
        taken += answer.status == 200
        context.load.history.add(
            Operation(
                INVALIDATE,
                answer.t_call,
                answer.t_return,
                answer.status,
                answer.request,
                live={key: version},
            )
        )
        if time.monotonic() - context.keep["began_s"] > _WRITING_S:
            break
    slot.close()
    context.remarks.append(f"{taken} invalidations were taken on the host that was cut off")


def _lose(*, from_primary: bool) -> Step:
    """Lose the packets of one direction between the primary's host and the other two."""

    def inject(context: Context) -> None:
        _settle(context)
        testbed = _testbed(context)
        primary = context.keep["old"] = testbed.setup.primary()
        for other in testbed.network.hosts:
            if other is not primary.host:
                ends = (primary.host, other) if from_primary else (other, primary.host)
                testbed.network.lose(*ends)
        context.keep["began_s"] = time.monotonic()

    return inject


def _heal(context: Context) -> None:
    testbed = _testbed(context)
    lasted_s = time.monotonic() - context.keep["began_s"]
    testbed.network.heal()
    replaced = testbed.setup.primary() is not context.keep["old"]
    context.remarks.append(f"lasted {lasted_s:.1f} s, then {'another' if replaced else 'the same'} primary")
    _settle(context)


def _fault(name: str, what: str, inject: Step, hold_s: float) -> Fault:
    return Fault(
        name=f"hosts-{name}",
        group="Hosts",
        promise=f"{what}: no old value later than 2 s after its invalidation; all names are on all pages",
        inject=inject,
        heal=_heal,
        hold_s=hold_s,
        l2_bound_ms=10_000,
        present=_ALL_NAMES,
        failing=frozenset({"invalidate"}),
        recovers_ms=10_000,
    )


FAULTS = (
    _fault(
        "primary-cut-off-5s", "the primary's host is cut off from the others for 5 s", _cut_off(_primary), 5.0
    ),
    _fault(
        "primary-cut-off-15s",
        "the primary's host is cut off from the others for 15 s",
        _cut_off(_primary),
        15.0,
    ),
    _fault(
        "primary-cut-off-written",
        "the primary's host is cut off for 8 s, and is sent invalidations directly afterwards",
        _cut_off_and_invalidate,
        8.0,
    ),
    _fault("replica-cut-off", "a replica's host is cut off from the others for 8 s", _cut_off(_replica), 8.0),
    _fault(
        "loss-from-primary",
        "what the primary's host sends to the others is lost for 8 s",
        _lose(from_primary=True),
        8.0,
    ),
    _fault(
        "loss-to-primary",
        "what the others send to the primary's host is lost for 8 s",
        _lose(from_primary=False),
        8.0,
    ),
)
