"""Faults of the Redis server, or of the links for commands."""

from __future__ import annotations

from faults.experiment import Context, Fault
from faults.links import DATA

_GROUP = "Redis server"
_SURVIVES = (
    "pages are served without Redis; it costs a page 0.5 s at most; invalidations are refused, not lost"
)
_REFUSED = frozenset({"invalidate"})


def _slow(delay_s: float) -> Fault:
    return Fault(
        name=f"redis-slow-{delay_s * 1000:.0f}ms",
        group=_GROUP,
        promise=_SURVIVES,
        inject=lambda context: context.testbed.links.delay(DATA, delay_s / 2),
        heal=lambda context: context.testbed.links.heal(),
        failing=_REFUSED,
        hold_s=4.0,
    )


def _frozen(seconds: float) -> Fault:
    return Fault(
        name=f"redis-frozen-{seconds:g}s",
        group=_GROUP,
        promise=_SURVIVES,
        inject=lambda context: context.testbed.valkey.pause(),
        heal=lambda context: context.testbed.valkey.resume(),
        hold_s=seconds,
        failing=_REFUSED,
    )


def _kill_and_start_empty(context: Context) -> None:
    context.testbed.valkey.kill()
    context.load.stopping.wait(2.0)
    context.testbed.valkey.restart()


def _save_and_kill(context: Context) -> None:
    """Crash Redis and restart it from a snapshot that holds values that were invalidated since."""
    context.testbed.redis.save()
    context.load.stopping.wait(1.0)
    context.testbed.valkey.kill()
    context.load.stopping.wait(1.0)
    context.testbed.valkey.restart()


def _fill_memory(context: Context) -> None:
    context.testbed.redis.config_set("maxmemory-policy", "noeviction")
    context.testbed.redis.config_set("maxmemory", "1mb")


def _free_memory(context: Context) -> None:
    context.testbed.redis.config_set("maxmemory", "0")


def _make_read_only(context: Context) -> None:
    context.testbed.redis.replicaof("127.0.0.1", "1")


def _make_writable(context: Context) -> None:
    context.testbed.redis.replicaof("NO", "ONE")


FAULTS = (
    Fault(
        name="redis-data-black-hole",
        group=_GROUP,
        promise=_SURVIVES,
        inject=lambda context: context.testbed.links.black_hole(DATA),
        heal=lambda context: context.testbed.links.heal(),
        hold_s=5.0,
        failing=_REFUSED,
    ),
    _slow(0.05),
    _slow(0.2),
    _frozen(3.0),
    _frozen(8.0),
    Fault(
        name="redis-killed-empty",
        group=_GROUP,
        promise=_SURVIVES,
        inject=_kill_and_start_empty,
        hold_s=0.0,
        failing=_REFUSED,
    ),
    Fault(
        name="redis-killed-restored",
        group=_GROUP,
        promise=_SURVIVES + "; a value that the snapshot restores is deleted and never shown",
        inject=_save_and_kill,
        hold_s=0.0,
        l2_bound_ms=5000,
        failing=_REFUSED,
    ),
    Fault(
        name="redis-full",
        group=_GROUP,
        promise="pages are served; a full Redis still takes invalidations",
        inject=_fill_memory,
        heal=_free_memory,
        hold_s=3.0,
    ),
    Fault(
        name="redis-read-only",
        group=_GROUP,
        promise="pages are served; invalidations are refused with 503, not lost",
        inject=_make_read_only,
        heal=_make_writable,
        hold_s=3.0,
        failing=_REFUSED,
    ),
)
