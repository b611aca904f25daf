"""The faults, in the order in which they are run."""

from faults.catalog import by_hand, channel, processes, rollback, server, takeover, upstreams
from faults.experiment import Fault

FAULTS: tuple[Fault, ...] = (
    *channel.FAULTS,
    *server.FAULTS,
    *rollback.FAULTS,
    *by_hand.FAULTS,
    *upstreams.FAULTS,
    *takeover.FAULTS,
    *processes.FAULTS,
)
