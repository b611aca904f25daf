"""What a worker pays for a message: processor time of its listener's thread, which takes it from pages."""

import threading
from collections.abc import Callable, Container
from contextlib import closing
from functools import partial
from pathlib import Path

from redis import Redis

from benchmarks.contenders import load_reference
from benchmarks.scale.operations import SOURCE, Writer, invalidate_sha, new_keys, one_by_one
from servease_appt.cache import Mode, TwoTierCache, connect
from servease_appt.cache.messages import Invalidation, own_message_parts
from servease_appt.references.entities import CODECS, Reference
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

PREFIX = "bench_worker"
PIPELINED = 100
Cache = TwoTierCache[Reference]


def measure_worker(messages: int) -> dict[str, float]:
    """Return the µs of one core that a worker's listener takes for one message, by kind."""
    with (
        EmbeddedValkey() as server,
        connect(server.url(1), timeout_s=30.0) as client,
        closing(Cache.from_url(server.url(1), CODECS, prefix=PREFIX, timeout_s=5.0)) as cache,
    ):
        others = {thread.native_id for thread in threading.enumerate()}
        cache.start()
        thread_id = _listener_thread_id(others)
        _await(lambda: cache.mode is Mode.BOTH)
        writer = Writer.of(client, PREFIX)
        writer.invalidate(new_keys(1))
        kinds: dict[str, Callable[[], object]] = {
            "invalidation of a key that L1 does not hold": partial(
                one_by_one, writer.invalidate, new_keys(messages)
            ),
            "fill by another worker": partial(one_by_one, writer.fill, new_keys(messages)),
            "invalidations of different keys, sent together": partial(
                _invalidate_together, writer, new_keys(messages)
            ),
            "invalidations of one key, sent together": partial(
                _invalidate_together, writer, new_keys(1) * messages
            ),
            "plain PUBLISHes of one key": lambda: _publish(client, cache, new_keys(1) * messages),
        }
        results = {
            kind: _listener_us(client, cache, thread_id, work) / messages for kind, work in kinds.items()
        }
        held = new_keys(messages)
        cache.get_many(held, load_reference)
        results["invalidation of a key that L1 holds"] = (
            _listener_us(client, cache, thread_id, partial(one_by_one, writer.invalidate, held)) / messages
        )
    return {name: round(us, 1) for name, us in results.items()}


def _invalidate_together(writer: Writer, keys: list[str]) -> None:
    """Send invalidations of single keys, many of them in one packet."""
    sha, names = invalidate_sha(writer.client), writer.keys
    for start in range(0, len(keys), PIPELINED):
        with writer.client.pipeline(transaction=False) as pipeline:
            for key in keys[start : start + PIPELINED]:
                head, tail = own_message_parts(Invalidation(keys=(key,), source=SOURCE))
                group = [names.sequence, *names.group(key)]
                pipeline.evalsha(sha, len(group), *group, names.channel, head, tail)
            pipeline.execute()


def _publish(client: Redis, cache: Cache, keys: list[str]) -> None:
    for start in range(0, len(keys), PIPELINED):
        with client.pipeline(transaction=False) as pipeline:
            for key in keys[start : start + PIPELINED]:
                pipeline.publish(cache.keys.channel, key)
            pipeline.execute()


def _listener_us(client: Redis, cache: Cache, thread_id: int, work: Callable[[], object]) -> float:
    """Return the processor time of the listener's thread until it has handled what `work` sent."""
    used_ns = _thread_ns(thread_id)
    work()
    last = new_keys(1)
    epoch = cache.l1.epoch()
    client.publish(cache.keys.channel, last[0])
    _await(lambda: cache.l1.invalidated_since(last[0], epoch))
    return (_thread_ns(thread_id) - used_ns) / 1000


def _listener_thread_id(others: Container[int | None]) -> int:
    for thread in threading.enumerate():
        new = thread.native_id is not None and thread.native_id not in others
        if new and thread.name == "servease-cache-listener":
            return int(thread.native_id or 0)
    raise RuntimeError("the cache has no listener")


def _thread_ns(thread_id: int) -> int:
    return int(Path(f"/proc/self/task/{thread_id}/schedstat").read_text("ascii").split()[0])


def _await(done: Callable[[], bool]) -> None:
    if not wait_until(done, timeout_s=60, interval_s=0.005):
        raise RuntimeError("the worker has not handled the messages within a minute")
