"""Many threads that start at the same moment."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Semaphore
from typing import TypeVar

T = TypeVar("T")
_LIMIT_S = 60.0
CONNECTIONS = 40
"""In the pool of the database that races use."""
_connections = Semaphore(CONNECTIONS)


def race(racers: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """What each of the racers returned or raised, in their order. They wait for each other at the start.

    No more run at once than have a connection: the others would give up waiting for one on a busy machine.
    """
    barrier = Barrier(len(racers))

    def run(racer: Callable[[], T]) -> T | Exception:
        barrier.wait(_LIMIT_S)
        try:
            with _connections:
                return racer()
        except Exception as error:  # noqa: BLE001 - the outcome of a racer
            return error

    with ThreadPoolExecutor(max_workers=len(racers)) as threads:
        return [started.result(_LIMIT_S) for started in [threads.submit(run, racer) for racer in racers]]


def outcomes(results: Sequence[object]) -> dict[str, int]:
    """How many of each type there are."""
    names = [type(result).__name__ for result in results]
    return {name: names.count(name) for name in sorted(set(names))}
