"""Count the commands of a Redis server by its own counters."""

from collections.abc import Callable
from typing import Any, cast

from redis import Redis

OF_THE_MEASURE = frozenset(
    {"info", "config|resetstat", "client|setinfo", "hello", "select", "ping", "flushdb"}
)
"""What comes of measuring and connecting, not of reading."""


def command_counts(client: Redis) -> dict[str, int]:
    """Return the calls by command since the server's start."""
    stats = cast("dict[str, dict[str, Any]]", client.info("commandstats"))
    counts = {name.removeprefix("cmdstat_"): int(about["calls"]) for name, about in stats.items()}
    return {name: calls for name, calls in counts.items() if name not in OF_THE_MEASURE}


def commands_per_call(client: Redis, call: Callable[[], object], *, calls: int) -> dict[str, float]:
    """Run `call` some times. Returns the commands of one run, with those inside scripts."""
    before = command_counts(client)
    for _ in range(calls):
        call()
    after = command_counts(client)
    per_call = {name: (n - before.get(name, 0)) / calls for name, n in sorted(after.items())}
    return {name: round(n, 2) for name, n in per_call.items() if round(n, 2) > 0}
