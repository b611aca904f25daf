"""What the number of entities costs: Redis memory for each, and the scans that one pattern causes."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Any

from redis import Redis

from benchmarks.cpu import cpu_seconds
from benchmarks.redis_commands import command_counts
from benchmarks.scale.operations import Writer, new_keys
from servease_appt.cache import Mode, TwoTierCache, connect, json_codec
from servease_appt.cache.messages import sequence_of
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

PREFIX = "bench_stock"
BATCH = 500
TIMEOUT_S = 5.0
"""Long, so that a busy machine makes no worker repeat its scans."""
CLAIM_ENDS_S = 1.6
POLL_S = 0.02
LIMIT_S = 60.0
_POPULATE = (
    "for i = tonumber(ARGV[2]), tonumber(ARGV[3]) do"
    " redis.call('SET', ARGV[1] .. ':vehicle_' .. i, '{\"full_name\":\"Nimal Perera\"}') end"
)


def memory_per_entity(writer: Writer, entities: int) -> dict[str, float]:
    """Return the bytes that one entity takes in Redis: value, stale copy and absence mark, by name."""

    def measure(store: Callable[[list[str]], object]) -> float:
        flush(writer.client)
        before = int(writer.client.info("memory")["used_memory"])
        for _ in range(entities // BATCH):
            store(new_keys(BATCH))
        return (int(writer.client.info("memory")["used_memory"]) - before) / (entities // BATCH * BATCH)

    value = measure(lambda keys: writer.fill(keys, stale_ms=0))
    with_copy = measure(writer.fill)
    absent = measure(writer.mark_absent)
    writer.client.flushdb()
    return {"value": round(value, 1), "copy": round(with_copy - value, 1), "absent": round(absent, 1)}


def flush(client: Redis) -> None:
    """Empty the database and free its memory at once; Valkey's default frees it later."""
    client.execute_command("FLUSHDB", "SYNC")  # type: ignore[no-untyped-call]


def scans_of_a_pattern(
    server: EmbeddedValkey, sizes: Sequence[int], workers: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the SCANs and the seconds of a pattern that a client publishes, by number of keys and of workers."""
    rows: list[dict[str, Any]] = []
    with connect(server.url(1), timeout_s=60.0) as client:
        stored = 0
        for size in sizes:
            for start in range(stored, size, 10_000):
                client.eval(_POPULATE, 0, PREFIX, start, min(start + 10_000, size) - 1)
            stored = size
            rows += [
                {"keys": size, "workers": count, **_publish_pattern(server, client, count)}
                for count in workers
            ]
        client.flushdb()
    return rows


def _publish_pattern(server: EmbeddedValkey, client: Redis, workers: int) -> dict[str, float]:
    with ExitStack() as stack:
        caches = [stack.enter_context(closing(_new_cache(server))) for _ in range(workers)]
        for cache in caches:
            cache.start()
        _await(lambda: all(cache.mode is Mode.BOTH for cache in caches), "connected")
        caches[0].invalidate([f"customer_{workers}"])  # so that there is a sequence
        expected = sequence_of(client.get(caches[0].keys.sequence)) or 0
        _await(lambda: _all_at(caches, expected), "handled an invalidation")
        before, used_s, started_s = _scans(client), cpu_seconds([server.pid]), time.monotonic()
        client.publish(caches[0].keys.channel, '{"pattern": "customer_*"}')
        scans, changed_at_s = before, started_s
        # A second worker would begin when the first one's claim ends, after 1.5 s at most.
        while time.monotonic() - changed_at_s < CLAIM_ENDS_S or scans == before:
            time.sleep(POLL_S)
            now = _scans(client)
            if now != scans:
                scans, changed_at_s = now, time.monotonic()
            if time.monotonic() - started_s > LIMIT_S:
                raise RuntimeError("the workers have not handled the pattern in time")
        used_s = cpu_seconds([server.pid]) - used_s
        elapsed_s = changed_at_s - started_s
        return {"scans": scans - before, "seconds": round(elapsed_s, 2), "cpu_s": round(used_s, 4)}


def _scans(client: Redis) -> int:
    return command_counts(client).get("scan", 0)


def _all_at(caches: Sequence[TwoTierCache[Any]], sequence: int) -> bool:
    states = [cache.channel for cache in caches]
    return all(state is not None and (state.sequence or 0) >= sequence for state in states)


def _new_cache(server: EmbeddedValkey) -> TwoTierCache[Any]:
    return TwoTierCache.from_url(server.url(1), (json_codec("customer"),), prefix=PREFIX, timeout_s=TIMEOUT_S)


def _await(done: Callable[[], bool], what: str) -> None:
    if not wait_until(done, timeout_s=60, interval_s=0.01):
        raise RuntimeError(f"the workers have not {what} within a minute")
