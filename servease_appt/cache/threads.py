"""Short tasks on threads of their own, such as a connection attempt that may take its whole timeout."""

from __future__ import annotations

import threading
from collections.abc import Callable


def run_in_thread(name: str, task: Callable[[], object]) -> bool:
    """Run a task on a daemon thread. Returns False if none can be started, as when the interpreter ends."""
    try:
        threading.Thread(target=task, name=f"servease-cache-{name}", daemon=True).start()
    except RuntimeError:
        return False
    return True
