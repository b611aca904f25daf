"""Part 2: pages over HTTP, against the minimal baseline, a constant answer, and plain cache-aside."""

import contextlib
import http.client
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import jwt

from benchmarks import nameless
from benchmarks.cpu import cpu_seconds
from benchmarks.measure import Figure, Rounds, in_turns
from benchmarks.one_client import WARM_UP_REQUESTS, WARM_UP_S, OneClient
from benchmarks.results import Results, Scale
from benchmarks.rows import PAGE_SIZE, fill_database, introduce_people, person
from benchmarks.target import Target
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey
from tests.support.gunicorn import Gunicorn

SECRET = "a-secret-for-benchmarks-of-32-bytes-or-more"  # noqa: S105 - opens nothing but what is started here
LIST = "/api/v1/appointments/"
UPSTREAM_DELAY_S = 0.05
GENERATOR = Path(__file__).with_name("load.py")

SERVICE, L2_ONLY = "service", "service, L1 off"
NAMED, NAMELESS = "service, one worker", "service, one worker, without names"
BASELINE, BASELINE_MGET, CONSTANT, ASIDE = (
    "minimal baseline",
    "minimal baseline, one MGET",
    "constant",
    "cache-aside",
)
BASELINE_PARALLEL = "minimal baseline, 60 calls side by side"
CALL = "one upstream call"


class Testbed:
    """Servers with the same appointments and references. Each measured server is started once."""

    def __init__(self, stack: ExitStack, sizes: Sequence[int]) -> None:
        self._stack = stack
        self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="servease-bench-")))
        self._valkey = stack.enter_context(EmbeddedValkey())
        self._postgres = stack.enter_context(EmbeddedPostgres())
        self.fake_services = stack.enter_context(FakeServices())
        introduce_people(self.fake_services)
        self._databases = {size: fill_database(self._postgres, size) for size in sizes}
        claims = {"user_id": person("customer", 1), "user_role": "admin", "exp": int(time.time()) + 7200}
        self.token = jwt.encode(claims, SECRET, algorithm="HS256")
        self._numbers = itertools.count()

    def serve(self, application: str, size: int, *, workers: int = 2, **settings: str) -> Gunicorn:
        """Start an application on the database of that size."""
        number = next(self._numbers)
        directory = self._directory / str(number)
        directory.mkdir()
        environment = {
            "SECRET_KEY": SECRET,
            "DATABASE_URL": self._databases[size],
            "REDIS_URL": self._valkey.url(1),
            "CACHE_KEY_PREFIX": f"bench_{number}",
            **self.fake_services.settings,
            **settings,
        }
        gunicorn = Gunicorn(environment, directory, application=application, workers=workers)
        return self._stack.enter_context(gunicorn)


def run(results: Results, scale: Scale) -> None:
    """Measure cold pages, warm pages, and pages of more and more appointments."""
    with ExitStack() as stack:
        testbed = Testbed(stack, scale.sizes)
        size = scale.sizes[0]
        servers = {
            SERVICE: testbed.serve("wsgi:app", size),
            L2_ONLY: testbed.serve("wsgi:app", size, CACHE_L1_TIMEOUT="0"),
            BASELINE: testbed.serve("benchmarks.minimal_baseline:app", size, BASELINE_NAMES="services"),
            BASELINE_MGET: testbed.serve("benchmarks.minimal_baseline:app", size, BASELINE_NAMES="mget"),
            ASIDE: testbed.serve("benchmarks.cache_aside:app", size),
        }
        measure_cold(testbed, servers, results, scale)
        measure_warm(testbed, servers, results, scale)
        measure_names(testbed, results, scale)
        if len(scale.sizes) > 1:
            measure_sizes(testbed, servers, results, scale)


def measure_cold(testbed: Testbed, servers: Mapping[str, Gunicorn], results: Results, scale: Scale) -> None:
    """Measure pages whose 60 names are in no cache; each page is requested once."""
    for fake_service in testbed.fake_services.all:
        fake_service.delay(UPSTREAM_DELAY_S)
    samples: dict[str, Callable[[], float]] = {CALL: partial(_one_call, testbed)}
    for name, contender in ((SERVICE, SERVICE), (BASELINE_PARALLEL, BASELINE)):
        paths = (f"{LIST}?page={number}" for number in itertools.count(1))
        samples[name] = partial(_next_page, testbed, servers[contender], paths)
    case = "Cold page: 60 names, each call 50 ms"
    # The first pages of both workers open their connections.
    in_turns(samples, rounds=2)
    rounds = in_turns(samples, rounds=min(15, 2 * scale.rounds))
    for name in samples:
        _add(results, case, name, "ms", rounds, baseline=CALL)
    pages = (1,) if scale.quick else (1, 2, 3)
    one_by_one = Figure.of([_next_page(testbed, servers[ASIDE], iter([f"{LIST}?page={n}"])) for n in pages])
    ratio = Figure.of([one_by_one.median / rounds.figure(CALL).median])
    results.add(
        part="pages", case=case, contender=ASIDE, unit="ms", figure=one_by_one, baseline=CALL, ratio=ratio
    )
    results.target(
        "Cold page of 60 names against one upstream call",
        value=rounds.ratio(SERVICE, CALL).median,
        limit=2.0,
        unit="×",
    )
    for fake_service in testbed.fake_services.all:
        fake_service.delay(0.0)


def measure_warm(testbed: Testbed, servers: Mapping[str, Gunicorn], results: Results, scale: Scale) -> None:
    """Measure the first page with warm caches."""
    constant = testbed.serve("benchmarks.minimal_baseline:app", scale.sizes[0])
    targets = {name: Target(server, LIST) for name, server in servers.items()}
    targets[CONSTANT] = Target(constant, "/constant")
    client = OneClient(targets, testbed.token)
    rounds = client.measure(_rounds(scale) * scale.seconds)
    results.target(
        "Warm page against the minimal baseline",
        value=rounds.ratio(SERVICE, BASELINE).median,
        limit=1.25,
        unit="×",
    )
    for name in targets:
        more = {"p99_ms": round(client.p99_ms[name], 2), "cpu_ms": round(client.cpu_ms[name], 3)}
        _add(results, "Warm page, 1 connection", name, "ms", rounds, baseline=BASELINE, **more)
    for connections in (16,) if scale.quick else (16, 64):
        _measure_throughput(testbed, targets, connections, results, scale)


def _measure_throughput(
    testbed: Testbed, targets: Mapping[str, Target], connections: int, results: Results, scale: Scale
) -> None:
    case = f"Warm page, {connections} connections"
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in targets}
    loads = {
        name: partial(_load, testbed, target, connections, scale, runs[name])
        for name, target in targets.items()
    }
    rounds = in_turns(loads, rounds=_rounds(scale))
    for name in targets:
        p99, cpu = (Figure.of([run[what] for run in runs[name][1:]]).median for what in ("p99", "cpu_ms"))
        more = {"p99_ms": round(p99, 2), "cpu_ms": round(cpu, 3)}
        _add(results, case, name, "pages/s", rounds, baseline=BASELINE, **more)
    if connections == 16:
        results.target(
            "Warm pages/s against cache-aside, 16 connections",
            value=rounds.ratio(SERVICE, ASIDE).median,
            limit=10,
            unit="×",
            at_least=True,
        )
    sys.stderr.write(f"  {case}\n")


def measure_names(testbed: Testbed, results: Results, scale: Scale) -> None:
    """Measure the same page of the same process with names and without."""
    server = testbed.serve("benchmarks.nameless:application()", scale.sizes[0], workers=1)
    targets = {NAMED: Target(server, LIST), NAMELESS: Target(server, LIST, nameless.HEADER)}
    rounds = OneClient(targets, testbed.token).measure(2 * _rounds(scale) * scale.seconds)
    for name in targets:
        _add(results, "Names on a warm page", name, "ms", rounds, baseline=NAMELESS)
    names = 1 - rounds.ratio(NAMELESS, NAMED).median
    results.target("Names on a warm page", value=names * 100, limit=5, unit="%")


def measure_sizes(testbed: Testbed, servers: Mapping[str, Gunicorn], results: Results, scale: Scale) -> None:
    """Measure the same pages with growing numbers of appointments."""
    ours = {
        size: servers[SERVICE] if size == scale.sizes[0] else testbed.serve("wsgi:app", size)
        for size in scale.sizes
    }
    baselines = {
        size: servers[BASELINE]
        if size == scale.sizes[0]
        else testbed.serve("benchmarks.minimal_baseline:app", size)
        for size in scale.sizes
    }
    views: dict[str, Callable[[int], str]] = {
        "first page": lambda _: LIST,
        "middle page": lambda size: f"{LIST}?page={size // PAGE_SIZE // 2}",
        "last page": lambda size: f"{LIST}?page={math.ceil(size / PAGE_SIZE)}",
        "first page of a status": lambda _: f"{LIST}?status=completed",
        "first page of a type": lambda _: f"{LIST}?appointment_type=repair",
        "first page of a year": lambda _: f"{LIST}?start_date=2025-01-01&end_date=2025-12-31",
        "a customer's second page": lambda _: (
            f"{LIST}customer_appointments/?customer_id={person('customer', 0)}&page=2"
        ),
        "a vehicle's array": lambda _: f"{LIST}vehicle_history/?vehicle_id={person('vehicle', 0)}",
        "an employee's array": lambda _: f"{LIST}employee_schedule/?employee_id={person('employee', 0)}",
        "numbers over all": lambda _: f"{LIST}stats/",
        "an employee's second page": lambda _: f"{LIST}employee/{person('employee', 0)}/?page=2",
    }
    smallest = f"service, {scale.sizes[0]:,}"
    for view, path in views.items():
        targets = {f"service, {size:,}": Target(ours[size], path(size)) for size in scale.sizes}
        if view in {"first page", "last page"}:
            targets |= {
                f"minimal baseline, {size:,}": Target(baselines[size], path(size)) for size in scale.sizes
            }
        case = f"By size, {view}"
        client = OneClient(targets, testbed.token)
        rounds = client.measure(_rounds(scale) * scale.seconds / 4)
        for name in targets:
            _add(results, case, name, "ms", rounds, baseline=smallest)
        largest = f"service, {scale.sizes[-1]:,}"
        results.target(
            f"{case}: {scale.sizes[-1]:,} against {scale.sizes[0]:,}",
            value=rounds.ratio(largest, smallest).median,
            limit=1.2,
            unit="×",
        )
        sys.stderr.write(f"  {case}\n")


def _rounds(scale: Scale) -> int:
    return 3 if scale.quick else 7


def _add(
    results: Results, case: str, name: str, unit: str, rounds: Rounds, *, baseline: str, **more: float
) -> None:
    results.add(
        part="pages",
        case=case,
        contender=name,
        unit=unit,
        figure=rounds.figure(name),
        baseline=baseline,
        ratio=rounds.ratio(name, baseline),
        ours=name.startswith(SERVICE) or None,
        **more,
    )


def _load(
    testbed: Testbed, target: Target, connections: int, scale: Scale, runs: list[dict[str, float]]
) -> float:
    """Return the answers a second."""
    warm_by_s = time.monotonic() + WARM_UP_S
    for _ in range(6 if runs else WARM_UP_REQUESTS):
        _get(target.server.port, target.path, testbed.token)
        if time.monotonic() > warm_by_s:
            break
    command = [
        *(sys.executable, "-I", "-S", str(GENERATOR), str(target.server.port), str(connections)),
        *(str(scale.seconds), testbed.token, target.path),
    ]
    workers = target.server.worker_pids()
    used_s = cpu_seconds(workers)
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    used_s = cpu_seconds(workers) - used_s
    if answer.returncode:
        raise RuntimeError(
            f"{target.path}: the load generator ended with {answer.returncode}: {answer.stderr}\n"
            f"{target.server.read_log()[-2000:]}"
        )
    run: dict[str, float] = json.loads(answer.stdout)
    runs.append(run | {"cpu_ms": used_s * 1000 / run["all_requests"]})
    return run["requests"] / run["seconds"]


def _get(port: int, path: str, token: str) -> float:
    """Return the milliseconds of one request on a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.connect()
        started_s = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        elapsed_ms = (time.perf_counter() - started_s) * 1000
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {body[:500]!r}")
    return elapsed_ms


def _next_page(testbed: Testbed, server: Gunicorn, paths: Iterator[str]) -> float:
    return _get(server.port, next(paths), testbed.token)


def _one_call(testbed: Testbed) -> float:
    path = f"/api/v1/vehicles/{person('vehicle', 1)}/"
    return _get(testbed.fake_services.vehicles.port, path, testbed.token)
