"""Redis starts again from an old snapshot, and the first command that it gets is a write."""

from __future__ import annotations

from typing import Self

from faults.experiment import Context, Fault
from faults.links import DATA, PUBSUB
from faults.testbed import PREFIX
from servease_appt.cache import TwoTierCache, connect
from servease_appt.references.entities import CUSTOMER, ENTITIES, Reference, customer

_WRITE_TRIES = 50


def _roll_back_and_write(context: Context) -> None:
    """Keep the workers out until another process has written, which counts the sequence on.

    The other process has written before the crash, too, so its own last number is higher than the snapshot's.
    """
    testbed = context.testbed
    testbed.redis.save()
    context.load.stopping.wait(1.0)
    with _OtherProcess(context) as other:
        other.write()
        testbed.valkey.kill()
        testbed.links.refuse(DATA, PUBSUB)
        testbed.valkey.restart()
        tries = next((n for n in range(1, _WRITE_TRIES) if other.write()), _WRITE_TRIES)
        testbed.links.heal()
    context.remarks.append(f"the write was accepted at attempt {tries}")
    if tries == _WRITE_TRIES:
        context.broken.append("the first write was never accepted")


class _OtherProcess:
    """A command that runs once and shares the workers' L2: it writes values and receives no messages."""

    def __init__(self, context: Context) -> None:
        dataset = context.testbed.dataset
        # Of no appointment, so that no page shows it.
        self._id = dataset.appointments[0]
        self._context = context
        self._cache: TwoTierCache[Reference] = TwoTierCache(
            connect(context.testbed.valkey.url(1), timeout_s=0.5),
            (ENTITIES[CUSTOMER].codec,),
            prefix=PREFIX,
            listen=False,
            owns_client=True,
        )
        self._turn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cache.close()

    def write(self) -> bool:
        """Store another value each time, since one that is stored already is not announced."""
        self._turn += 1
        text = f"c000 v{self._turn}"
        value = customer(id=self._id, full_name=text, email="c000@example.com")
        if self._cache.set(f"{CUSTOMER}_{self._id}", value, ttl_s=60.0):
            return True
        self._context.load.stopping.wait(0.1)
        return False


FAULTS = (
    Fault(
        name="redis-rolled-back-write-first",
        group="Redis server",
        promise="a value that the snapshot restores is deleted within 5 s and never shown, although a write hides"
        " that invalidations were lost",
        inject=_roll_back_and_write,
        hold_s=0.0,
        l2_bound_ms=5000,
        failing=frozenset({"invalidate"}),
    ),
)
