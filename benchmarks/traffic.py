"""Measure hit rates under traffic like that of a chain of workshops: `python -m benchmarks.traffic`.

The traffic is drawn from a seed and then replayed: two runs send the same requests at the same times.

* 3,000 customers with one or two cars, 24 employees, 6,000 appointments on 61 days around today. Who books is
  Zipf-distributed (s = 1): a few fleets book often, most customers once or twice.
* 35 % lists of a day by staff: today half of the time, else a day near it, geometrically fewer the further it is;
  the first page in 75 of 100 cases, the second in 20, the third in 5.
* 35 % details: 6 of 10 are rows of such a list, 4 of 10 are any appointment, seen once.
* 20 % customers who look at their own appointments, Zipf-distributed (s = 1) too, and look again within a minute
  with a chance of one half, each time anew.
* 10 % schedules of an employee for the coming week, Zipf-distributed (s = 0.8).

Arrivals are a Poisson process of `--rate` requests a second. Time runs `--speed` times as fast, and the cache's
lifetimes are shorter by the same factor (L1's at least a second), so that an hour takes a few minutes. The first
ten minutes, in which the cache is cold, are not counted. A hit is a name that no service was asked for.
"""

from __future__ import annotations

import argparse
import bisect
import http.client
import itertools
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import jwt
from sqlalchemy import create_engine, insert, text

from servease_appt.db.migrate import upgrade
from servease_appt.db.models import Appointment
from servease_appt.demo.sample_entities import Entry, new_id
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.servers import EmbeddedPostgres, EmbeddedValkey
from tests.support.gunicorn import Gunicorn

SECRET = "a-secret-for-benchmarks-of-32-bytes-or-more"  # noqa: S105 - opens nothing but what is started here
LIST = "/api/v1/appointments/"
CUSTOMERS, EMPLOYEES, APPOINTMENTS, DAYS = 3000, 24, 6000, 61
COLD_S = 600.0
LIFETIME_S = 300
THREADS = 24

PROMISED = {
    "list": ("80-90 %", 0.80),
    "detail": ("70-80 %", 0.70),
    "employee schedule": ("90-95 %", 0.90),
    "customer's appointments": ("85-90 %", 0.85),
}


class Request(NamedTuple):
    """One request, `at_s` seconds after the start in simulated time."""

    at_s: float
    kind: str
    path: str
    customer_id: str | None


@dataclass(frozen=True, slots=True)
class Workshop:
    """The entities and appointments; `by_day` has the appointments of each day in the order of the list."""

    customers: list[Entry]
    vehicles: list[Entry]
    employees: list[Entry]
    appointments: list[dict[str, Any]]
    by_day: dict[date, list[str]]


class Zipf:
    """Draws from `items`: the item of rank r with a weight of 1 / r ** s."""

    def __init__(self, items: Sequence[Any], s: float) -> None:
        self._items = items
        self._bounds = list(itertools.accumulate(1 / rank**s for rank in range(1, len(items) + 1)))

    def draw(self, rng: random.Random) -> Any:
        """Draw one item."""
        return self._items[bisect.bisect(self._bounds, rng.random() * self._bounds[-1])]


def make_workshop(rng: random.Random, today: date) -> Workshop:
    """Make a workshop; the same generator and day give the same one."""
    customers = [
        {"id": new_id(rng), "full_name": f"Customer {n}", "email": f"customer{n}@example.com"}
        for n in range(CUSTOMERS)
    ]
    employees = [{"id": new_id(rng), "full_name": f"Employee {n}"} for n in range(EMPLOYEES)]
    cars: dict[str, list[Entry]] = {
        customer["id"]: [
            {
                "id": new_id(rng),
                "year": 2020,
                "make": "Skoda",
                "model": "Fabia",
                "customer_id": customer["id"],
            }
            for _ in range(rng.choice((1, 1, 2)))
        ]
        for customer in customers
    }
    who_books = Zipf(customers, s=1.0)
    starts = sorted(
        (
            today + timedelta(days=rng.randrange(DAYS) - DAYS // 2),
            clock(rng.randrange(8, 18), rng.choice((0, 30))),
        )
        for _ in range(APPOINTMENTS)
    )
    appointments = [_appointment(rng, start, who_books.draw(rng), cars, employees) for start in starts]
    by_day: dict[date, list[str]] = defaultdict(list)
    for row in sorted(appointments, key=lambda row: (row["scheduled_time"], row["id"]), reverse=True):
        by_day[row["scheduled_date"]].append(row["id"])
    return Workshop(
        customers, [car for owned in cars.values() for car in owned], employees, appointments, by_day
    )


def _appointment(
    rng: random.Random,
    start: tuple[date, clock],
    customer: Entry,
    cars: dict[str, list[Entry]],
    employees: list[Entry],
) -> dict[str, Any]:
    moment = datetime.combine(*start, tzinfo=UTC)
    return {
        "id": new_id(rng),
        "customer_id": customer["id"],
        "vehicle_id": rng.choice(cars[customer["id"]])["id"],
        "assigned_employee_id": rng.choice(employees)["id"],
        "appointment_type": "maintenance",
        "scheduled_date": start[0],
        "scheduled_time": start[1],
        "duration_minutes": 60,
        "status": "cancelled",  # takes no room, so that no rule of scheduling is in the way
        "service_description": "Service",
        "customer_notes": "",
        "internal_notes": "",
        "duration_seconds": 0,
        "created_by_user_id": customer["id"],
        "created_at": moment,
        "updated_at": moment,
    }


def draw_traffic(
    rng: random.Random, workshop: Workshop, today: date, rate: float, minutes: float
) -> list[Request]:
    """Return all requests in the order of their times."""
    drawer = _Drawer(rng, workshop, today)
    requests: list[Request] = []
    at_s = 0.0
    while at_s < minutes * 60:
        at_s += rng.expovariate(rate * drawer.share_of_first_looks)
        requests.extend(drawer.draw(at_s))
    return sorted(request for request in requests if request.at_s < minutes * 60)


class _Drawer:
    """Draws one arrival at a time: a request, and the requests of the same customer soon after."""

    share_of_first_looks = 0.9
    """One arrival in nine is a customer's, who looks twice on average: the other look is no arrival."""

    def __init__(self, rng: random.Random, workshop: Workshop, today: date) -> None:
        self._rng = rng
        self._workshop = workshop
        self._today = today
        self._who_looks = Zipf(workshop.customers, s=1.0)
        self._whose_week = Zipf(workshop.employees, s=0.8)

    def draw(self, at_s: float) -> Iterator[Request]:
        """Draw the requests of an arrival at `at_s`."""
        kind = self._rng.choices(list(PROMISED), (35, 35, 10, 10))[0]  # a customer's counts twice
        if kind == "list":
            day, page = self._day(), self._page()
            yield self._request(at_s, kind, start_date=day, end_date=day, page=page)
        elif kind == "detail":
            yield Request(at_s, kind, f"{LIST}{self._appointment_id()}/", None)
        elif kind == "employee schedule":
            employee = self._whose_week.draw(self._rng)
            week = {"start_date": self._today, "end_date": self._today + timedelta(days=6)}
            yield self._request(at_s, kind, "employee_schedule/", employee_id=employee["id"], **week)
        else:
            yield from self._looks_of_a_customer(at_s, kind)

    def _looks_of_a_customer(self, at_s: float, kind: str) -> Iterator[Request]:
        customer_id = self._who_looks.draw(self._rng)["id"]
        while True:
            path = f"{LIST}customer_appointments/?{urlencode({'customer_id': customer_id})}"
            yield Request(at_s, kind, path, customer_id)
            if self._rng.random() < 0.5:
                return
            at_s += self._rng.uniform(2, 60)

    def _request(self, at_s: float, kind: str, below: str = "", **query: object) -> Request:
        return Request(at_s, kind, f"{LIST}{below}?{urlencode(query)}", None)

    def _day(self) -> date:
        away = 0
        while self._rng.random() < 0.5 and away < DAYS // 2:
            away += 1
        return self._today + timedelta(days=away * self._rng.choice((-1, 1, 1)))

    def _page(self) -> int:
        return self._rng.choices((1, 2, 3), (75, 20, 5))[0]

    def _appointment_id(self) -> str:
        if self._rng.random() < 0.4:
            return str(self._rng.choice(self._workshop.appointments)["id"])
        listed = self._workshop.by_day[self._day()]
        page = min(self._page(), 1 + (len(listed) - 1) // 20)
        return self._rng.choice(listed[20 * (page - 1) : 20 * page])


@dataclass
class Seen:
    """Counts of the sources of names in the answers to one kind of request."""

    answers: int = 0
    without_a_call: int = 0
    names: Counter[str] | None = None

    def add(self, x_cache: str) -> None:
        """Count one answer's header `X-Cache`."""
        found = Counter({name: int(n) for name, _, n in (part.partition("=") for part in x_cache.split())})
        self.names = found if self.names is None else self.names + found
        self.answers += 1
        self.without_a_call += not (found["upstream"] or found["stale"] or found["unknown"])

    @property
    def hit_rate(self) -> float:
        """Return the share of names that came from L1 or L2."""
        names = self.names or Counter()
        return (names["l1"] + names["l2"]) / max(1, names.total())


class Replay:
    """Sends requests when they are due, over kept-alive connections."""

    def __init__(self, port: int, speed: float) -> None:
        self._port = port
        self._speed = speed
        self._lock = threading.Lock()
        self._seen = {kind: Seen() for kind in PROMISED}
        self._latest_s = 0.0
        self._staff = _token("employee", "00000000-0000-4000-8000-000000000001")

    def run(self, requests: list[Request]) -> tuple[dict[str, Seen], float]:
        """Return the counts after the cold start, and the largest delay of a request in seconds."""
        turns = iter(requests)
        self._began_s = time.monotonic()
        with ThreadPoolExecutor(THREADS) as pool:
            for finished in [pool.submit(self._work, turns) for _ in range(THREADS)]:
                finished.result()
        return self._seen, self._latest_s

    def _work(self, turns: Iterator[Request]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while True:
            with self._lock:
                request = next(turns, None)
            if request is None:
                connection.close()
                return
            due_in_s = self._began_s + request.at_s / self._speed - time.monotonic()
            if due_in_s > 0:
                time.sleep(due_in_s)
            x_cache = self._ask(connection, request)
            with self._lock:
                self._latest_s = max(self._latest_s, -due_in_s)
                if request.at_s >= COLD_S:
                    self._seen[request.kind].add(x_cache)

    def _ask(self, connection: http.client.HTTPConnection, request: Request) -> str:
        token = self._staff if request.customer_id is None else _token("customer", request.customer_id)
        connection.request("GET", request.path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{request.path}: {answer.status} {body.decode()}")
        return answer.headers["X-Cache"]


def _token(role: str, user_id: str) -> str:
    claims = {"user_id": user_id, "user_role": role, "token_type": "access", "exp": int(time.time()) + 7200}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def main() -> int:
    """Replay, and print the results beside the promises. Returns 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.traffic", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second, before speeding up (5)")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the workshop's own time (60)")
    parser.add_argument("--speed", type=float, default=30.0, help="how many times as fast (30)")
    parser.add_argument("--seed", type=int, default=1, help="other people, other traffic (1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    today = datetime.now(UTC).date()
    workshop = make_workshop(rng, today)
    requests = draw_traffic(rng, workshop, today, arguments.rate, arguments.minutes)
    print(f"{len(requests)} requests in {arguments.minutes * 60 / arguments.speed:.0f} s …", file=sys.stderr)
    seen, latest_s = _serve_and_replay(workshop, requests, arguments.speed)
    print(_as_json(seen) if arguments.json else _as_table(seen))
    if latest_s > 1:
        print(
            f"This machine is too slow for this speed: a request was {latest_s:.1f} s late.", file=sys.stderr
        )
    return int(any(seen[kind].hit_rate < least for kind, (_, least) in PROMISED.items()))


def _serve_and_replay(
    workshop: Workshop, requests: list[Request], speed: float
) -> tuple[dict[str, Seen], float]:
    with (
        tempfile.TemporaryDirectory(prefix="servease-traffic-") as directory,
        EmbeddedValkey() as valkey,
        EmbeddedPostgres() as postgres,
        FakeServices(delay_s=0.02) as fake_services,
    ):
        fake_services.customers.put(*workshop.customers)
        fake_services.vehicles.put(*workshop.vehicles)
        fake_services.employees.put(*workshop.employees)
        environment = {
            "SECRET_KEY": SECRET,
            "DATABASE_URL": _filled(postgres, workshop),
            "REDIS_URL": valkey.url(1),
            "CACHE_TIMEOUT": str(max(1, round(LIFETIME_S / speed))),
            "CACHE_L1_TIMEOUT": str(max(1, round(10 / speed))),
            **fake_services.settings,
        }
        with Gunicorn(environment, Path(directory)) as gunicorn:
            return Replay(gunicorn.port, speed).run(requests)


def _filled(postgres: EmbeddedPostgres, workshop: Workshop) -> str:
    url = postgres.create_database("traffic").replace("postgresql://", "postgresql+psycopg2://", 1)
    upgrade(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(insert(Appointment), workshop.appointments)
        connection.execute(text("ANALYZE"))
    engine.dispose()
    return url


def _as_table(seen: dict[str, Seen]) -> str:
    lines = [
        "| names of | promised | measured | answers without any call | answers |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {kind} | {PROMISED[kind][0]} | {it.hit_rate:.1%} | {it.without_a_call / max(1, it.answers):.1%}"
        f" | {it.answers} |"
        for kind, it in seen.items()
    ]
    return "\n".join(lines)


def _as_json(seen: dict[str, Seen]) -> str:
    return json.dumps(
        {
            kind: {"hit_rate": round(it.hit_rate, 4), "answers": it.answers, "names": it.names or {}}
            for kind, it in seen.items()
        }
    )


if __name__ == "__main__":
    sys.exit(main())
