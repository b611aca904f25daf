"""The faults of Sentinel and Cluster: all kinds are there, and the verdict over each can be negative."""

import pytest

from faults import experiment, report
from faults.experiment import Fault, Phases
from faults.fleet.__main__ import TOPOLOGIES
from faults.history import INVALIDATE, PAGE, Operation

MS = 1_000_000
INJECTED, ENDED = 1000, 9000
PHASES = Phases(0, INJECTED * MS, ENDED * MS, frozenset({41}))
FAULTS = [fault for _, faults in TOPOLOGIES.values() for fault in faults]
KINDS = {
    "sentinel": {"primary-killed", "primary-stopped", "planned-failover", "replica-lags", "partition"},
    "cluster": {
        "primary-killed",
        "sequence-killed",
        "primary-stopped",
        "planned-failover",
        "replica-lags",
        "no-successor",
        "reshard",
        "node-added-and-removed",
    },
    "hosts": {
        "primary-cut-off-5s",
        "primary-cut-off-15s",
        "primary-cut-off-written",
        "replica-cut-off",
        "loss-from-primary",
        "loss-to-primary",
    },
    "hosts-cluster": {"bus-cut-off", "cut-off", "cut-off-written"},
}


def page(t_call: float, text: str, status: int = 200) -> Operation:
    """A page of worker 41; the time is in milliseconds."""
    t_call_ns = int(t_call * MS)
    return Operation(
        PAGE, t_call_ns, t_call_ns + MS, status, worker=41, seen={"c001": text}, facts={"cache_ms": 1.0}
    )


INVALIDATED = Operation(INVALIDATE, 2000 * MS, 2001 * MS, 200, worker=42, live={"c001": 2})
CLEAN = [page(500, "c001 v1"), INVALIDATED, page(3000, "c001 v1"), page(5000, "c001 v2")]


@pytest.mark.parametrize("topology", KINDS)
def test_every_kind_of_fault_is_there_and_has_a_table(topology: str) -> None:
    """Each has a name of its own, and the page has a place for the results."""
    names = [fault.name for fault in TOPOLOGIES[topology][1]]
    assert sorted(names) == sorted(f"{topology}-{kind}" for kind in KINDS[topology])
    text = report.PAGE.read_text()
    assert f"<!-- {topology}: begin -->" in text
    assert f"<!-- {topology}: end -->" in text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_verdict_can_be_negative(fault: Fault) -> None:
    """An old value 2 s after its invalidation breaks the promise, as do a missing name and a failed page."""
    assert experiment.judge(fault, CLEAN, PHASES).kept
    for added, broken in [
        (page(4002, "c001 v1"), "1 reads stale beyond 2000 ms"),
        (page(4002, "Unknown"), "1 missing names of services that answer"),
        (page(4002, "", 503), "1 failed requests"),
    ]:
        result = experiment.judge(fault, sorted([*CLEAN, added], key=lambda op: op.t_call), PHASES)
        assert broken in result.broken
