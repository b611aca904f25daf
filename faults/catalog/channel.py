"""Faults of the links over which workers receive invalidations."""

from __future__ import annotations

from faults.experiment import Context, Fault
from faults.links import PUBSUB
from faults.testbed import PREFIX

_GROUP = "invalidation channel"
_HEARD_LATE = "no old value later than 2 s after its invalidation, and none after the new subscription"


def _kill_subscribers(context: Context) -> None:
    killed = context.testbed.redis.client_kill_filter(_type="pubsub", skipme=True)
    context.remarks.append(f"{killed} subscriptions killed")


def _overflow_subscribers(context: Context) -> None:
    """Publish a thousand meaningless messages in one script, against a buffer limit of 64 KB."""
    client = context.testbed.redis
    client.config_set("client-output-buffer-limit", "pubsub 65536 0 0")
    context.keep["closed"] = _closed_by_server(context)
    script = "for i = 1, 1000 do redis.call('PUBLISH', KEYS[1], ARGV[1]) end"
    client.eval(script, 1, f"{PREFIX}:invalidate", "{" + "x" * 1000)


def _usual_buffers(context: Context) -> None:
    context.testbed.redis.config_set("client-output-buffer-limit", "pubsub 33554432 8388608 60")
    closed = _closed_by_server(context) - context.keep["closed"]
    context.remarks.append(f"{closed} subscriptions closed by the server")


def _closed_by_server(context: Context) -> int:
    return int(context.testbed.redis.info("stats")["client_output_buffer_limit_disconnections"])


FAULTS = (
    Fault(
        name="none",
        group="control",
        promise="an old value is gone from all workers within 250 ms (aim: 10 ms for 99 of 100)",
        bound_ms=250,
    ),
    Fault(
        name="pubsub-kill",
        group=_GROUP,
        promise=_HEARD_LATE,
        inject=_kill_subscribers,
        hold_s=2.0,
    ),
    Fault(
        name="pubsub-black-hole",
        group=_GROUP,
        promise=_HEARD_LATE,
        inject=lambda context: context.testbed.links.black_hole(PUBSUB),
        heal=lambda context: context.testbed.links.heal(),
        hold_s=5.0,
    ),
    Fault(
        name="pubsub-one-way-loss",
        group=_GROUP,
        promise=_HEARD_LATE,
        inject=lambda context: context.testbed.links.lose_answers(PUBSUB),
        heal=lambda context: context.testbed.links.heal(),
        hold_s=5.0,
    ),
    Fault(
        name="pubsub-reset",
        group=_GROUP,
        promise=_HEARD_LATE,
        inject=lambda context: context.testbed.links.reset(PUBSUB),
        hold_s=2.0,
    ),
    Fault(
        name="pubsub-buffer-overflow",
        group=_GROUP,
        promise=_HEARD_LATE,
        inject=_overflow_subscribers,
        heal=_usual_buffers,
        hold_s=2.0,
    ),
)
