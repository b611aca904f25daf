"""Ctrl-C while a program is still being imported."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_interrupt() -> Iterator[None]:
    """End the process without a traceback on Ctrl-C in the block. Main thread only.

    Python's own handler raises KeyboardInterrupt between any two lines of an import. A handler that is set already
    stays, and so does an ignored signal, as of a job in the background.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, before)
