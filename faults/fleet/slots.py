"""Move slots from one node of a cluster to another, as `redis-cli --cluster reshard` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from servease_appt.testing.servers import HOST, EmbeddedValkey
from tests.cache.cluster_setup import ClusterSetup

_BATCH = 10
_MIGRATE_TIMEOUT_MS = 5000
_PAUSE_S = 0.1


def move(
    setup: ClusterSetup,
    slots: Sequence[int],
    source: EmbeddedValkey,
    target: EmbeddedValkey,
    *,
    pause: Callable[[float], object],
) -> int:
    """Move slots one after the other, with pauses before and after the keys of each are moved.

    Returns:
        The number of keys that were moved.
    """
    source_id, target_id = (setup.do(node, "CLUSTER", "MYID").decode() for node in (source, target))
    moved = 0
    for slot in slots:
        setup.do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        setup.do(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        pause(_PAUSE_S)
        moved += _move_keys(setup, slot, source, target)
        pause(_PAUSE_S)
        for node in dict.fromkeys([target, source, *setup.primaries()]):
            setup.do(node, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
    return moved


def _move_keys(setup: ClusterSetup, slot: int, source: EmbeddedValkey, target: EmbeddedValkey) -> int:
    moved = 0
    while True:
        keys: Any = setup.do(source, "CLUSTER", "GETKEYSINSLOT", slot, _BATCH)
        if not keys:
            return moved
        names = [key.decode() for key in keys]
        setup.do(source, "MIGRATE", HOST, target.port, "", 0, _MIGRATE_TIMEOUT_MS, "KEYS", *names)
        moved += len(names)
