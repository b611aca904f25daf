"""The protections that experiments take out still have the names by which they are taken out."""

import subprocess
import sys

APPLY_ALL = "from faults import broken; [broken.apply(name) for name in broken.BREAKS]"


def test_every_protection_can_be_taken_out() -> None:
    """In a process of its own, since it stays without them."""
    subprocess.run([sys.executable, "-c", APPLY_ALL], check=True)
