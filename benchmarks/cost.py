"""Part 5: the cost of the cache without load: memory, an idle worker, commands, start-up."""

import subprocess
import sys
import tempfile
import time
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

from redis import Redis

from benchmarks.contenders import Ours, load_reference, new_keys
from benchmarks.cpu import cpu_seconds
from benchmarks.measure import Figure
from benchmarks.pages import SECRET
from benchmarks.redis_commands import command_counts, commands_per_call
from benchmarks.results import Results, Scale
from servease_appt.cache import CachePolicy, Mode, TwoTierCache
from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.l1 import L1, Entry
from servease_appt.references.entities import CODECS, Reference
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey
from tests.support.gunicorn import REPOSITORY, Gunicorn

ENTRIES = 10_000
OUR_PREFIX = "appointment_service"
OURS = "service"


def run(results: Results, scale: Scale) -> None:
    """Measure all of them."""
    _measure_memory(results)
    for stale_ttl_s in (CachePolicy().stale_ttl_s, 0.0):
        _measure_redis_memory(results, stale_ttl_s)
    with EmbeddedValkey() as server, Redis.from_url(server.url(0)) as counters:
        _measure_commands(server.url(1), counters, results)
        _measure_worker(server, counters, results, seconds=3 if scale.quick else 15)


def _add(
    results: Results, case: str, unit: str, figure: Figure, commands: dict[str, float] | None = None
) -> None:
    results.add(
        part="cost", case=case, contender=OURS, unit=unit, figure=figure, ours=True, redis_commands=commands
    )


def _measure_memory(results: Results) -> None:
    """Measure the memory of a first tier full of customers, vehicles and employees."""
    decode = {kind.name: kind.decode for kind in CODECS}
    encode = {kind.name: kind.encode for kind in CODECS}
    keys = new_keys(ENTRIES)
    payloads = {
        key: encode[name](load_reference(key, 0.0)) for key in keys for name in [key.partition("_")[0]]
    }
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    l1: L1[Reference] = L1(maxsize=ENTRIES)
    now = elapsed_s()
    l1.put_many(
        [
            (
                f"{key}",
                Entry(decode[key.partition("_")[0]](payloads[key], key.partition("_")[2]), now, now + 10),
            )
            for key in keys
        ],
        l1.epoch(),
    )
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    _add(results, f"Memory of a full L1, {ENTRIES:,} entries", "MB", Figure.of([(after - before) / 1e6]))


def _measure_redis_memory(results: Results, stale_ttl_s: float) -> None:
    """Measure what Redis holds of one entity: its value, and the stale copy if there is one."""
    policy = CachePolicy(stale_ttl_s=stale_ttl_s)
    with (
        EmbeddedValkey() as server,
        Redis.from_url(server.url(0)) as counters,
        TwoTierCache.from_url(server.url(1), CODECS, prefix=OUR_PREFIX, policy=policy) as cache,
    ):

        def fill(entities: int) -> int:
            for _ in range(entities // 60):
                cache.get_many(new_keys(60), load_reference)
            return int(counters.info("memory")["used_memory"])

        before = fill(600)
        used = (fill(ENTRIES) - before) / (ENTRIES // 60 * 60)
    copy = "with" if stale_ttl_s else "without"
    _add(results, f"Memory of Redis for one entity, {copy} a stale copy", "bytes", Figure.of([used]))


def _measure_commands(url: str, counters: Redis, results: Results) -> None:
    """Count the Redis commands of one fill and one invalidation, with the commands inside scripts."""
    ours = Ours(url)
    if not wait_until(lambda: ours.cache.mode is Mode.BOTH, timeout_s=5):
        raise RuntimeError("the cache's channel was not confirmed within 5 s")
    for count in (1, 60):
        page = new_keys(count)
        for what, call in (
            ("Filling", lambda n=count: ours.read(new_keys(n))),
            ("Invalidating", lambda keys=page: ours.cache.invalidate(keys)),
        ):
            started_s = time.perf_counter()
            commands = commands_per_call(counters, call, calls=50)
            milliseconds = (time.perf_counter() - started_s) / 50 * 1000
            case = f"{what} {count} key{'s' if count > 1 else ''}"
            _add(results, case, "ms", Figure.of([milliseconds]), commands)
    ours.close()


def _measure_worker(server: EmbeddedValkey, counters: Redis, results: Results, *, seconds: float) -> None:
    """Measure one worker: the time until its first answer, and its cost without requests."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="servease-bench-")))
        postgres = stack.enter_context(EmbeddedPostgres())
        fake_services = stack.enter_context(FakeServices())
        settings = {
            "SECRET_KEY": SECRET,
            "DATABASE_URL": postgres.url(),
            "REDIS_URL": server.url(1),
            **fake_services.settings,
        }
        started_s = time.perf_counter()
        service = stack.enter_context(Gunicorn(settings, directory, workers=1))
        _add(
            results,
            "From gunicorn's start to its first answer",
            "s",
            Figure.of([time.perf_counter() - started_s]),
        )
        (worker,) = service.worker_pids()
        time.sleep(1)
        used_s, commands = cpu_seconds([worker]), command_counts(counters)
        time.sleep(seconds)
        used_s = cpu_seconds([worker]) - used_s
        sent = {
            name: round((n - commands.get(name, 0)) / seconds, 2)
            for name, n in command_counts(counters).items()
            if n > commands.get(name, 0)
        }
        _add(results, "CPU of an idle worker", "%", Figure.of([used_s / seconds * 100]), sent)
        _add(results, "Memory of an idle worker", "MB", Figure.of([_resident_mb(worker)]))
    imports = [_import_seconds() for _ in range(3)]
    _add(results, "Importing the application", "s", Figure.of(imports))


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise LookupError("VmRSS")


def _import_seconds() -> float:
    started_s = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "import servease_appt.app"], check=True, cwd=REPOSITORY, capture_output=True
    )
    return time.perf_counter() - started_s
