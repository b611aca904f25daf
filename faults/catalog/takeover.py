"""A slow service, and as many workers that need the same name: how often is it asked?"""

from __future__ import annotations

import json
import select
import time

from faults.checkers import version_in
from faults.experiment import Context, Fault
from faults.http_client import Slot

DEADLINE_S = 2.0
"""The default of UPSTREAM_TIMEOUT."""
SLOW_S = 0.9 * DEADLINE_S
MOST_LOADS = 2
FIRST_NAME_LIMIT_S = SLOW_S + 0.5
_ALL_NAMES_LIMIT_S = 3 * DEADLINE_S
_KEYS = ("c005", "c017", "c029")


def broken_promises(key: str, loads: int, shown_s: dict[int, float], workers: int) -> list[str]:
    """Judge what happened to one key after its invalidation.

    Args:
        loads: how often its service was asked.
        shown_s: by worker, the seconds from the invalidation to the first page with the name.
        workers: how many there are.
    """
    broken = []
    if loads > MOST_LOADS:
        broken.append(f"{key} was loaded {loads} times")
    if not shown_s or min(shown_s.values()) > FIRST_NAME_LIMIT_S:
        broken.append(f"{key} was on no page within {FIRST_NAME_LIMIT_S:g} s")
    if len(shown_s) < workers:
        broken.append(f"{workers - len(shown_s)} workers never showed {key}")
    return broken


def _slow_down(context: Context) -> None:
    context.testbed.fake_services.customers.delay(SLOW_S)
    slots = context.load.repin({})
    for key in _KEYS:
        loads, shown_s = _invalidate_and_ask(context, key, slots)
        context.broken += broken_promises(key, loads, shown_s, context.testbed.workers)
        times = ", ".join(f"{seconds:.1f} s" for seconds in sorted(shown_s.values()))
        context.remarks.append(f"{key}: {loads} loads, shown by the workers after {times}")
    for slot in slots.values():
        slot.close()


def _invalidate_and_ask(context: Context, key: str, slots: dict[int, Slot]) -> tuple[int, dict[int, float]]:
    """Invalidate a customer, then ask every worker for a page with its name until each has shown it."""
    testbed = context.testbed
    customers, id_ = testbed.fake_services.customers, testbed.dataset.ids[key]
    customers.forget_calls()
    body = json.dumps({"entity": "customer", "ids": [id_]}).encode()
    next(iter(slots.values())).ask("POST", "/cache/invalidate/", body)
    began_s = time.monotonic()
    shown_s: dict[int, float] = {}
    while len(shown_s) < len(slots) and time.monotonic() - began_s < _ALL_NAMES_LIMIT_S:
        for worker, slot in slots.items():
            if worker not in shown_s and not slot.busy:
                slot.start("GET", f"/appointments/{testbed.dataset.appointment_of(key)}/")
        busy = {slot: worker for worker, slot in slots.items() if slot.busy}
        for slot in select.select(list(busy), [], [], 0.5)[0]:
            answer = slot.receive()
            if answer is None or answer.status != 200:
                continue
            if version_in(testbed.dataset.seen_in(json.loads(answer.body))[key]):
                shown_s[busy[slot]] = time.monotonic() - began_s
    calls = customers.calls()
    return max((count for path, count in calls.items() if id_ in path), default=0), shown_s


FAULTS = (
    Fault(
        name="upstream-slow-takeover",
        group="upstream services",
        promise=f"four workers want one name, and its service takes 0.9 of the deadline: it is asked {MOST_LOADS} "
        "times at most, and the first answer is shown by all",
        inject=_slow_down,
        heal=lambda context: context.testbed.fake_services.customers.delay(0.01),
        hold_s=0.5,
        freezes=frozenset({"customer"}),
        bound_ms=250,
        failing=frozenset({"book"}),
    ),
)
