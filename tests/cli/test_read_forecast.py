"""The sentence that tells an operator what the next read does."""

from dataclasses import replace

import pytest

from servease_appt.cache import CachePolicy
from servease_appt.cli.cache.read_forecast import WorkerView, next_read
from servease_appt.inspection.entries import StoredEntry
from servease_appt.inspection.workers import L1Entry

POLICY = CachePolicy()
KEY = "customer_bcee5755-2c9f-4c0a-8720-1592b75edf96"
NOTHING = StoredEntry(KEY)
VALUE = StoredEntry(KEY, exists=True, payload=b"{}", digest="aa", value_s=200.0, stale_s=3800.0)
IN_L1 = L1Entry(age_s=3.0, left_s=7.0, absent=False, trusted=True, digest="aa")


@pytest.mark.parametrize(
    ("held", "worker", "says"),
    [
        (VALUE, WorkerView(IN_L1), "is answered from L1 for up to 7.0 s more."),
        (VALUE, WorkerView(replace(IN_L1, digest="bb")), "Redis holds ANOTHER value"),
        (VALUE, WorkerView(replace(IN_L1, trusted=False)), "reads it from Redis"),
        (
            VALUE,
            WorkerView(replace(IN_L1, trusted=False, age_s=0.4)),
            "for up to 0.6 s more (not longer, because its channel is not confirmed)",
        ),
        (NOTHING, WorkerView(replace(IN_L1, absent=True)), "shows 'Unknown' from L1"),
        (VALUE, WorkerView(None), "reads it from Redis and keeps it in L1 for up to 10 s."),
        (VALUE, WorkerView(None, l1_switched_off=True), "reads it from Redis; its L1 is switched off."),
        (
            VALUE,
            WorkerView(None, redis_breaker="open"),
            "does not query Redis, which failed less than 2 s ago, and calls",
        ),
        (VALUE, WorkerView(None, redis_breaker="open"), "if the call fails, it shows 'Unknown'"),
        (
            replace(VALUE, digest=None),
            WorkerView(None),
            "that are not a customer, deletes them, and calls",
        ),
        (StoredEntry(KEY, absent_s=42.0), WorkerView(None), "shows 'Unknown' without a call"),
        (
            StoredEntry(KEY, lease_s=1.0, lease_holder="vm:7:aa"),
            WorkerView(None),
            "waits for vm:7:aa, which is loading it now",
        ),
        (NOTHING, WorkerView(None), "if the call fails, it shows 'Unknown'"),
        (StoredEntry(KEY, stale_s=100.0), WorkerView(None), "if the call fails, it shows the stale copy"),
        (NOTHING, WorkerView(None, service_breaker="open"), "does not call the customer service"),
    ],
)
def test_next_read_names_the_place_it_will_come_from(
    held: StoredEntry, worker: WorkerView, says: str
) -> None:
    """L1, Redis, a remembered absence, somebody's load under way, the service, or what stands in for it."""
    assert says in next_read(held, worker, POLICY)
