"""Faults of the services that own the names."""

from __future__ import annotations

import json
from typing import Any

from faults.experiment import Context, Fault, Step

_GROUP = "upstream services"
_PLACEHOLDERS = (
    "pages are answered within 2.3 s with placeholders, which are not kept; all names are back 3 s later"
)
_PAGE_LIMIT_MS = 2300.0
_RECOVERS_MS = 3000.0
_CUSTOMER = frozenset({"customer"})


def _rule(**what: Any) -> Step:
    return lambda context: context.testbed.fake_services.customers.rule(**what)


_as_usual = _rule()


def _upstream_fault(
    name: str,
    inject: Step,
    *,
    heal: Step = _as_usual,
    promise: str = _PLACEHOLDERS,
    hold_s: float = 4.0,
    freezes: frozenset[str] = _CUSTOMER,
    present: frozenset[str] = frozenset(),
    failing: frozenset[str] = frozenset(),
) -> Fault:
    return Fault(
        name=name,
        group=_GROUP,
        promise=promise,
        inject=inject,
        heal=heal,
        hold_s=hold_s,
        freezes=freezes,
        present=present,
        failing=failing,
        bound_ms=250,
        page_limit_ms=_PAGE_LIMIT_MS,
        recovers_ms=_RECOVERS_MS,
    )


def _all_down(context: Context) -> None:
    for service in context.testbed.fake_services.all:
        service.stop()


def _start_again(*kinds: str) -> Step:
    """Restart a service, which has no entries at first and answers 404, then announce its entries."""

    def heal(context: Context) -> None:
        dataset = context.testbed.dataset
        for kind in kinds:
            dataset.service(kind).restart()
            dataset.service(kind).put(*dataset.entries(kind))
        _announce_all(context, *kinds)

    return heal


def _hang_and_forget(context: Context) -> None:
    """Freeze the customer service, and have pages need every name of all three services, three times."""
    context.testbed.fake_services.customers.pause()
    for _ in range(3):
        _announce_all(context, "customer", "vehicle", "employee")
        context.load.stopping.wait(1.5)


def _resume_and_announce(context: Context) -> None:
    context.testbed.fake_services.customers.resume()
    _announce_all(context, "customer")


def _announce_all(context: Context, *kinds: str) -> None:
    """Invalidate every name of some services."""
    dataset, slot = context.testbed.dataset, context.testbed.slot()
    for kind in kinds:
        ids = [id_ for key, id_ in dataset.ids.items() if dataset.kind_of(key) == kind]
        answer = slot.ask("POST", "/cache/invalidate/", json.dumps({"entity": kind, "ids": ids}).encode())
        if answer.status != 200:
            context.broken.append(f"the invalidation of all {kind}s was answered with {answer.status}")
    slot.close()


def _flap(context: Context) -> None:
    for _ in range(3):
        _rule(drop=True)(context)
        context.load.stopping.wait(0.7)
        _as_usual(context)
        context.load.stopping.wait(0.7)


def _redirect(context: Context) -> None:
    elsewhere = context.testbed.fake_services.vehicles
    elsewhere.forget_calls()
    _rule(status=302, headers={"Location": f"{elsewhere.url}/elsewhere/"})(context)


def _no_longer_redirect(context: Context) -> None:
    calls = context.testbed.fake_services.vehicles.calls()
    followed = sum(n for path, n in calls.items() if "elsewhere" in path)
    context.remarks.append(f"{followed} redirects followed")
    if followed:
        context.broken.append("a redirect was followed")
    _as_usual(context)


FAULTS = (
    _upstream_fault(
        "upstream-down",
        lambda context: context.testbed.fake_services.customers.stop(),
        heal=_start_again("customer"),
    ),
    _upstream_fault(
        "upstreams-all-down",
        _all_down,
        heal=_start_again("customer", "employee", "vehicle"),
        freezes=frozenset({"customer", "employee", "vehicle"}),
    ),
    _upstream_fault(
        "upstream-hung",
        lambda context: context.testbed.fake_services.customers.pause(),
        heal=lambda context: context.testbed.fake_services.customers.resume(),
        hold_s=6.0,
    ),
    _upstream_fault(
        "upstream-hung-others-cold",
        _hang_and_forget,
        heal=_resume_and_announce,
        promise="nobody has a name cached and one service hangs: every name of the two others is on every page",
        hold_s=1.0,
        present=frozenset({"vehicle", "employee"}),
        failing=frozenset({"book"}),
    ),
    _upstream_fault("upstream-500", _rule(status=500)),
    _upstream_fault("upstream-flapping", _flap, hold_s=0.0),
    _upstream_fault(
        "upstream-one-slow",
        _rule(delay_s=1.5),
        promise="pages wait for the slow one's names only, and the two others' are there",
    ),
    _upstream_fault("upstream-redirect", _redirect, heal=_no_longer_redirect),
    _upstream_fault("upstream-garbage", _rule(body="<html>It works!</html>")),
)
