"""The faults, in the order in which they are run."""

from faults.catalog import channel
from faults.experiment import Fault

FAULTS: tuple[Fault, ...] = (*channel.FAULTS,)
