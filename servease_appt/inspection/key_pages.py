"""List the keys of cached values page by page, with what is left of their lifetimes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from redis import Redis

from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.cluster_client import Cluster

PAGE: Final = 50
SCAN_COUNT: Final = 200
MOST_SCANS: Final = 50
FIRST: Final = "0.0"
GONE: Final = -2
"""The reply to PTTL for a key that does not exist."""
CURSOR: Final = re.compile(r"(\d{1,4})\.(\d{1,20})\Z", re.ASCII)
"""The server's number and SCAN's cursor there. As text: JavaScript has no integers of 64 bits."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One value in Redis.

    Attributes:
        key: the cache key, such as `customer_UUID`.
        left_s: seconds until it expires; None where it does not.
    """

    key: str
    left_s: float | None


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Part of the keys. SCAN may return a key twice, and says nothing of keys that come and go meanwhile.

    Attributes:
        rows: ordered by key; may be empty although there is more.
        cursor: where the next page begins; None after the last.
    """

    rows: list[KeyRow]
    cursor: str | None


def read_page(client: Redis, keys: KeySpace, pattern: str, cursor: str = FIRST) -> KeyPage:
    """Read one page by SCAN, which never blocks the server for long. Raises redis-py's errors.

    Args:
        client: of one server or of a cluster, whose primaries are read one after the other.
        keys: how keys are named.
        pattern: a glob pattern of cache keys, such as `customer_*`.
        cursor: `FIRST`, or that of the page before. Raises ValueError for anything that is no cursor.

    Returns:
        At least `PAGE` keys where there are so many, and about `PAGE + SCAN_COUNT` at most. After `MOST_SCANS`
        calls a page ends with what it has, so it takes milliseconds among many keys of other programs, too.
    """
    matched = CURSOR.match(cursor)
    if matched is None:
        raise ValueError(f"{cursor!r} is no cursor")
    number, position = int(matched[1]), int(matched[2])
    servers = _servers(client)
    rows: dict[str, KeyRow] = {}
    for _ in range(MOST_SCANS):
        if number >= len(servers):
            break
        position, names = servers[number].scan(position, match=keys.patterns.data(pattern), count=SCAN_COUNT)
        rows.update((row.key, row) for row in _rows(servers[number], keys, names))
        if not position:
            number += 1
        if len(rows) >= PAGE:
            break
    following = f"{number}.{position}" if number < len(servers) else None
    return KeyPage([rows[key] for key in sorted(rows)], following)


def _servers(client: Redis) -> list[Redis]:
    if isinstance(client, Cluster):
        return [node.client for node in sorted(client.nodes.primaries(), key=lambda node: node.name)]
    return [client]


def _rows(server: Redis, keys: KeySpace, names: Iterable[bytes | str]) -> list[KeyRow]:
    reserved = keys.reserved.encode()
    data = [name for name in names if isinstance(name, bytes) and not name.startswith(reserved)]
    if not data:
        return []
    with server.pipeline(transaction=False) as pipeline:
        for name in data:
            pipeline.pttl(name)
        left_ms = pipeline.execute(raise_on_error=False)
    return [
        KeyRow(keys.plain(name.decode(errors="replace")), left / 1000 if left >= 0 else None)
        for name, left in zip(data, left_ms, strict=True)
        if isinstance(left, int) and left != GONE  # an error where the slot has moved to another node
    ]
