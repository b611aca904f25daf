"""The faults, in the order in which they are run."""

from faults.catalog import by_hand, channel, processes, server, upstreams
from faults.experiment import Fault

FAULTS: tuple[Fault, ...] = (
    *channel.FAULTS,
    *server.FAULTS,
    *by_hand.FAULTS,
    *upstreams.FAULTS,
    *processes.FAULTS,
)
