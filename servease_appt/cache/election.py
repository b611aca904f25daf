"""How one worker comes to do what every worker knows has to be done, without a lock.

Each waits a few random milliseconds, begins with a message on the ordered channel, and ends with another one. A
worker that receives the first waits for the second. If that does not come, another worker begins again.
"""

from __future__ import annotations

import math
import random
from typing import Final

LONGEST_DELAY_S: Final = 0.03
STEEPNESS: Final = 7.0
CLAIM_S: Final = 1.0
"""Seconds to wait for the scans of another worker; up to half is added at random."""


def draw_delay_s() -> float:
    """Return a random delay in seconds; short delays are rare.

    The density is exponential. So about 1 to 2 workers draw a delay within one message's travel time of the
    shortest, for any number of workers up to about e^7.
    """
    return LONGEST_DELAY_S / STEEPNESS * math.log1p(random.random() * math.expm1(STEEPNESS))


def draw_claim_s() -> float:
    """Return the seconds for which a start keeps this worker from beginning, too."""
    return CLAIM_S * random.uniform(1.0, 1.5)
