"""Flask-Caching with the two-tier backend against its own RedisCache: the same calls, in turns."""

import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial

from flask import Flask
from flask_caching import Cache

from benchmarks.measure import in_turns
from benchmarks.results import Results, Scale
from servease_appt.cache import Mode
from servease_appt.cache.flask_caching import TwoTierBackend
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

REDIS_CACHE = "RedisCache"
TWO_TIERS = "TwoTierBackend"
TYPES = {REDIS_CACHE: "RedisCache", TWO_TIERS: "servease_appt.cache.flask_caching.TwoTierBackend"}
MANY = 60
VALUE = {"id": 1, "name": "oil filter", "price": 12.5, "tags": ["a", "b", "c"]}
PAGE = "x" * 20_000
BATCH_S = 0.05
LIMITS: Mapping[str, float] = {
    "get": 0.3,
    "memoize hit": 0.35,
    "cached view": 0.6,
    "get_many 60": 1.0,
    "set": 2.5,
    "delete": 2.5,
    "set_many 60": 2.0,
    "miss + set": 2.5,
}
"""How many times RedisCache's time each call may take at most."""


class Host:
    """One application with one backend."""

    def __init__(self, name: str, url: str) -> None:
        self.app = Flask(name)
        self.app.config.update(CACHE_TYPE=TYPES[name], CACHE_REDIS_URL=url, CACHE_KEY_PREFIX=name)
        self.cache = Cache(self.app)
        self._numbers = itertools.count()
        self.calls = self._calls()
        self._warm_up()

    def _calls(self) -> dict[str, Callable[[], object]]:
        cache, numbers = self.cache, self._numbers
        names = [f"many{n}" for n in range(MANY)]

        @cache.memoize(300)
        def memoized(_number: int) -> dict[str, object]:
            return VALUE

        @self.app.get("/page")
        @cache.cached(300)
        def page() -> str:
            return PAGE

        client = self.app.test_client()

        def miss_and_set() -> None:
            name = f"missed{next(numbers)}"
            cache.get(name)
            cache.set(name, VALUE)

        return {
            "get": lambda: cache.get("key"),
            "memoize hit": lambda: memoized(1),
            "cached view": lambda: client.get("/page"),
            "get_many 60": lambda: cache.get_many(*names),
            "set": lambda: cache.set(f"set{next(numbers) % 50}", {**VALUE, "id": next(numbers)}),
            "delete": lambda: cache.delete(f"set{next(numbers) % 50}"),
            "set_many 60": lambda: cache.set_many({name: next(numbers) for name in names}),
            "miss + set": miss_and_set,
        }

    def _warm_up(self) -> None:
        backend = self.cache.cache
        if isinstance(backend, TwoTierBackend):
            backend.tiers.start()
            if not wait_until(lambda: backend.tiers.mode is Mode.BOTH, timeout_s=5):
                raise RuntimeError("the cache's channel was not confirmed within 5 s")
        self.cache.set("key", VALUE)
        for call in ("set_many 60", "get_many 60", "get", "memoize hit", "cached view"):
            self.timed(call, 1)

    def timed(self, call: str, times: int) -> float:
        """Return the microseconds of one call."""
        make = self.calls[call]
        with self.app.app_context():
            if call in ("get_many 60", "get"):
                make()  # what was written since comes into memory again
            started_s = time.perf_counter()
            for _ in range(times):
                make()
            return (time.perf_counter() - started_s) / times * 1e6

    def close(self) -> None:
        """Stop the backend's threads."""
        backend = self.cache.cache
        if isinstance(backend, TwoTierBackend):
            backend.close()


def run(results: Results, scale: Scale) -> None:
    """Measure each call."""
    with EmbeddedValkey() as server:
        hosts = {name: Host(name, server.url(1)) for name in TYPES}
        try:
            for call, limit in LIMITS.items():
                _measure(call, limit, hosts, results, scale)
        finally:
            for host in hosts.values():
                host.close()


def _measure(call: str, limit: float, hosts: dict[str, Host], results: Results, scale: Scale) -> None:
    samples: dict[str, Callable[[], float]] = {}
    for name, host in hosts.items():
        times = max(3, int(BATCH_S * scale.length * 1e6 / host.timed(call, 10)))
        samples[name] = partial(host.timed, call, times)
    rounds = in_turns(samples, rounds=scale.rounds)
    for name in hosts:
        results.add(
            part="flask_caching",
            case=call,
            contender=name,
            unit="µs",
            figure=rounds.figure(name),
            baseline=REDIS_CACHE,
            ratio=rounds.ratio(name, REDIS_CACHE),
            ours=name == TWO_TIERS or None,
        )
    results.target(
        f"Flask-Caching: {call}, against RedisCache",
        value=rounds.ratio(TWO_TIERS, REDIS_CACHE).median,
        limit=limit,
        unit="×",
    )
