"""The sentence that tells an operator what the next read does."""

import dataclasses
from typing import Any

import pytest

from servease_appt.cache import CachePolicy
from servease_appt.cli.cache.read_forecast import InRedis, WorkerView, next_read

POLICY = CachePolicy()
VALUE = InRedis(payload=b"{}", there=True, digest="aa", value_s=200.0, copy_s=3800.0)
NOTHING = InRedis()
IN_L1: dict[str, Any] = {"age_s": 3.0, "left_s": 7.0, "absent": False, "trusted": True, "digest": "aa"}


@pytest.mark.parametrize(
    ("held", "worker", "says"),
    [
        (VALUE, WorkerView(IN_L1), "answers out of its own memory for up to 7.0 s more."),
        (VALUE, WorkerView({**IN_L1, "digest": "bb"}), "NOT what Redis holds"),
        (VALUE, WorkerView({**IN_L1, "trusted": False}), "reads it from Redis"),
        (
            VALUE,
            WorkerView({**IN_L1, "trusted": False, "age_s": 0.4}),
            "for up to 0.6 s more (no longer: its channel is not confirmed)",
        ),
        (NOTHING, WorkerView({**IN_L1, "absent": True}), "shows 'Unknown' out of its own memory"),
        (VALUE, WorkerView(None), "reads it from Redis and keeps it in its own memory for up to 10 s."),
        (
            VALUE,
            WorkerView(None, redis_breaker="open"),
            "does not ask Redis, which failed a moment ago, and asks",
        ),
        (VALUE, WorkerView(None, redis_breaker="open"), "if the service fails, it shows 'Unknown'"),
        (
            dataclasses.replace(VALUE, digest=None),
            WorkerView(None),
            "that is no customer, deletes it, and asks",
        ),
        (InRedis(absent_s=42.0), WorkerView(None), "shows 'Unknown' without asking"),
        (
            InRedis(lease_s=1.0, holder="vm:7:aa"),
            WorkerView(None),
            "waits for vm:7:aa, which is loading it now",
        ),
        (NOTHING, WorkerView(None), "if the service fails, it shows 'Unknown'"),
        (InRedis(copy_s=100.0), WorkerView(None), "if the service fails, it shows the last known copy"),
        (NOTHING, WorkerView(None, service_breaker="open"), "does not ask the customer service"),
    ],
)
def test_next_read_names_the_place_it_will_come_from(held: InRedis, worker: WorkerView, says: str) -> None:
    """L1, Redis, a remembered absence, somebody's load under way, the service, or what stands in for it."""
    assert says in next_read("customer", held, worker, POLICY)
