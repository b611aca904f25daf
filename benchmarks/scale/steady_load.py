"""A steady load of fills and invalidations: the server's share of a core, and how late messages are."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.scale.crowd import FEW, Address, Crowd, crowd
from benchmarks.scale.drive import Driven, Load, drive
from benchmarks.scale.fake_listener import Behaviour
from benchmarks.scale.operations import Writer
from servease_appt.cache import connect
from servease_appt.testing.servers import EmbeddedValkey


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the load has cost.

    Attributes:
        core: the share of a core that the server used.
        fills_per_s: what was reached.
        delay_p50_ms: from the call of an invalidation to a listener's reception of its message.
        bytes_per_s: received by all listeners together.
    """

    listeners: int
    tracking: bool
    core: float
    fills_per_s: float
    invalidations_per_s: float
    delay_p50_ms: float
    delay_p99_ms: float
    bytes_per_s: float
    deliveries_per_s: float

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as a JSON object."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def run_load(
    server: EmbeddedValkey,
    address: Address,
    listeners: int,
    load: Load,
    *,
    tracking: bool,
    lazy: bool = True,
    keys: Iterator[str] | None = None,
) -> Outcome:
    """Run the load against so many listeners, with tracking messages on or off.

    Delays are taken by a few of the listeners, in a process of their own: a process that reads a thousand sockets
    one after the other would be measured instead. These few subscribe last, so that Redis serves them last. With
    `lazy` the others read once a second. See `drive` for `keys`.
    """
    timed = min(FEW, listeners)
    with connect(server.url(address.database), timeout_s=30.0) as client, ExitStack() as stack:
        crowds: list[Crowd] = []
        if listeners > timed:
            crowds.append(stack.enter_context(crowd(address, listeners - timed, tracking=tracking)))
        crowds.append(stack.enter_context(crowd(address, timed, tracking=tracking)))
        for fakes in crowds:
            last = fakes is crowds[-1]
            fakes.behave(Behaviour(timed=last, lazy=lazy and not last))
        driven = drive(server, address, Writer.of(client, address.prefix), load, keys=keys)
        return _outcome(crowds, driven, tracking=tracking)


def _outcome(crowds: list[Crowd], driven: Driven, *, tracking: bool) -> Outcome:
    counts = [fakes.wait_for(messages=fakes.size * driven.invalidations) for fakes in crowds]
    delays_ms = sorted(counts[-1].delays_ms)
    elapsed_s = driven.elapsed_s
    return Outcome(
        listeners=sum(fakes.size for fakes in crowds),
        tracking=tracking,
        core=driven.server_s / elapsed_s,
        fills_per_s=driven.fills / elapsed_s,
        invalidations_per_s=driven.invalidations / elapsed_s,
        delay_p50_ms=delays_ms[len(delays_ms) // 2],
        delay_p99_ms=delays_ms[int(len(delays_ms) * 0.99)],
        bytes_per_s=sum(one.bytes for one in counts) / elapsed_s,
        deliveries_per_s=sum(one.messages + one.tracking for one in counts) / elapsed_s,
    )
