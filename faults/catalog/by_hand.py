"""Changes of keys by operators and other services, and corrupt values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

from faults.experiment import HEALTHY_BOUND_MS, Context, Fault
from faults.links import DATA
from faults.testbed import PREFIX

_GROUP = "by hand"
_FOLLOWS = "every worker follows within 250 ms"
_OF_WHAT_IS_STORED = _FOLLOWS + ", for what is stored at that moment"
_CHANNEL = f"{PREFIX}:invalidate"
_STRANDINGS = 4
_BETWEEN_STRANDINGS_S = 1.2
_STORM = 20_000
_STORM_BATCH = 1000
_DELETE_MATCHING = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end"


def _announcing(
    name: str, promise: str, announce: Callable[[Context, str], object], *, rushing: bool = True
) -> Fault:
    """Announce new versions in another way than by HTTP; `announce` gets the key as the cache names it."""

    def inject(context: Context) -> None:
        context.load.rushing = rushing
        context.load.announce = lambda key: announce(context, context.testbed.dataset.cache_key(key))

    return Fault(
        name=name,
        group=_GROUP,
        promise=promise,
        inject=inject,
        bound_ms=HEALTHY_BOUND_MS,
        l2_bound_ms=HEALTHY_BOUND_MS,
    )


def _publish_over_stranded_links(context: Context) -> None:
    """Announce by PUBLISH, and let the workers' open data links carry nothing from now on, again and again."""
    context.load.announce = lambda key: context.testbed.redis.publish(
        _CHANNEL, context.testbed.dataset.cache_key(key)
    )
    for _ in range(_STRANDINGS):
        context.testbed.links.strand(DATA)
        context.load.stopping.wait(_BETWEEN_STRANDINGS_S)


def _corrupt(context: Context) -> None:
    """Store corrupt values of many forms under keys, eight times; three times also a huge one."""
    client, dataset = context.testbed.redis, context.testbed.dataset
    names = [f"{PREFIX}:{dataset.cache_key(key)}" for key in dataset.versions if key[0] == "c"]
    stranger = {"id": dataset.ids["c000"], "full_name": "c000 v1", "email": "c000@example.com"}
    junk = [b"{not json", b"[]", b"null", b'"text"', b"\x80\x05K\x01.", json.dumps(stranger).encode()]
    for turn in range(8):
        chosen = names[1 + 2 * turn :]
        for name, payload in zip(
            chosen, [*junk, *([b"x" * 5_000_000] if turn % 3 == 0 else [])], strict=False
        ):
            client.set(name, payload, ex=60)
        client.delete(chosen[7])
        client.lpush(chosen[7], "a list")
        context.load.stopping.wait(0.3)


def _storm(context: Context) -> None:
    """Invalidate many distinct keys that no page shows, in a few requests."""
    import uuid

    slot = context.testbed.slot()
    took, refused = [], Counter[int]()
    for _ in range(_STORM // _STORM_BATCH):
        ids = [str(uuid.uuid4()) for _ in range(_STORM_BATCH)]
        body = json.dumps({"entity": "customer", "ids": ids}).encode()
        answer = slot.ask("POST", "/cache/invalidate/", body)
        if answer.status != 200:
            refused[answer.status] += 1
        took.append((answer.t_return - answer.t_call) / 1e6)
    slot.close()
    context.remarks += [
        f"{n} of {len(took)} requests of the storm were answered with {status}"
        for status, n in refused.items()
    ]
    context.remarks.append(f"{_STORM} keys, the slowest request of {_STORM_BATCH} took {max(took):.0f} ms")


FAULTS = (
    _announcing(
        "by-hand-del",
        _OF_WHAT_IS_STORED,
        lambda context, key: context.testbed.redis.delete(f"{PREFIX}:{key}"),
        rushing=False,
    ),
    _announcing(
        "by-hand-eval",
        _OF_WHAT_IS_STORED,
        lambda context, key: context.testbed.redis.eval(_DELETE_MATCHING, 0, f"{PREFIX}:{key}*"),
        rushing=False,
    ),
    _announcing(
        "by-hand-publish",
        "every worker and L2 follow within 250 ms",
        lambda context, key: context.testbed.redis.publish(_CHANNEL, key),
    ),
    _announcing("by-hand-flushdb", _FOLLOWS, lambda context, _key: context.testbed.redis.flushdb()),
    Fault(
        name="data-links-stranded",
        group=_GROUP,
        promise="idle data links carry nothing any more and the channel lives: every worker follows a PUBLISH"
        " within 2 s, and L2 within 5 s",
        inject=_publish_over_stranded_links,
        hold_s=0.5,
        l2_bound_ms=5000,
        failing=frozenset({"invalidate"}),
    ),
    Fault(
        name="values-corrupted",
        group=_GROUP,
        promise="what is no value of the key's id is a miss; it is never shown",
        inject=_corrupt,
        hold_s=0.5,
    ),
    Fault(
        name="storm-of-invalidations",
        group=_GROUP,
        promise="20,000 distinct keys: pages go on, and no old value stays",
        inject=_storm,
        hold_s=1.0,
        bound_ms=1000,
    ),
)
