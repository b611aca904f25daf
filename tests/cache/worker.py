"""A worker process of its own, for tests that kill or outnumber them: `python -m tests.cache.worker URL POLICY`.

Takes one JSON command a line (`{"do": "read", "keys": [...], "threads": 8}`, `invalidate`, `ready`, `l1`) and
answers with one JSON line each. What it loads from lies in database 0: `source:KEY` is the version, `loads:KEY`
counts, and a load waits for an element of the list `gate:KEY` if `held:KEY` is there.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from servease_appt.cache import CachePolicy, ValueNotFound, connect
from tests.cache.testbed import CODECS, PREFIX, Cache, Versioned, held_in_l1, listening


class SharedSource:
    """Versions that several processes load from."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url.rpartition("/")[0] + "/0")

    def load(self, key: str, timeout_s: float) -> Versioned:
        """What the cache is given as its loader."""
        self._client.incr(f"loads:{key}")
        version: Any = self._client.get(f"source:{key}")
        if self._client.exists(f"held:{key}"):
            self._client.blpop([f"gate:{key}"], timeout=timeout_s)
        if version is None:
            raise ValueNotFound(key)
        return Versioned(key.partition("_")[2], int(version))


def answer(cache: Cache, source: SharedSource, command: dict[str, Any]) -> Any:
    """Do one command."""
    keys = command.get("keys", [])
    match command["do"]:
        case "read":
            with ThreadPoolExecutor(command.get("threads", 1)) as threads:
                reading = [
                    threads.submit(cache.get_many, keys, source.load)
                    for _ in range(command.get("threads", 1))
                ]
                lookups = [future.result() for future in reading]
            return [
                {key: value and value.version for key, value in lookup.values.items()} for lookup in lookups
            ]
        case "invalidate":
            return cache.invalidate(keys)
        case "l1":
            return {key: value and value.version for key in keys for value in [held_in_l1(cache, key)]}
        case "ready":
            listening(cache)
            return cache.identity
    raise ValueError(command["do"])


def main() -> None:
    """Answer commands until there are no more."""
    url, policy = sys.argv[1], json.loads(sys.argv[2])
    cache: Cache = Cache(connect(url, timeout_s=2.0), CODECS, prefix=PREFIX, policy=CachePolicy(**policy))
    source = SharedSource(url)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(cache, source, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
