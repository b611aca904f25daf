"""A worker of a released version, by its own code, beside a present one: one Redis, one upgraded PostgreSQL.

L1 and L2 keep names for ten minutes here, so only a worker that has handled an invalidation shows a new name.
"""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from redis import Redis

from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.dataset import Dataset, new_id
from tests.support.gunicorn import Gunicorn
from tests.support.served import ADMIN, Served, serve, settings
from tests.upgrade.releases import COMMITS

INVALIDATE = "/api/v1/cache/invalidate/"
CHANNEL = "appointment_service:invalidate"


@dataclass(frozen=True)
class Pair:
    """The two services."""

    old: Served
    new: Served

    @property
    def both_ways(self) -> tuple[tuple[Served, Served], tuple[Served, Served]]:
        """Who acts, and who follows."""
        return (self.old, self.new), (self.new, self.old)


@pytest.fixture(scope="module")
def new(
    new_database: Callable[[str], str],
    migrated_template: str,
    valkey: EmbeddedValkey,
    running_fake_services: FakeServices,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """The present service with one worker."""
    with Redis.from_url(valkey.url(1)) as server:
        server.flushall()
    running_fake_services.reset()
    kept = {"CACHE_L1_TIMEOUT": "600", "CACHE_TIMEOUT": "600"}
    environment = settings(new_database(migrated_template), valkey.url(1), running_fake_services, **kept)
    with serve(environment, running_fake_services, tmp_path_factory.mktemp("new"), workers=1) as served:
        yield served


@pytest.fixture(scope="module", params=COMMITS)
def pair(
    request: pytest.FixtureRequest,
    new: Served,
    code_of: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    """The released version with one worker beside it, on the tables of the present version."""
    directory = tmp_path_factory.mktemp("old")
    environment = {
        **new.gunicorn.settings,
        "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
        "COVERAGE_PROCESS_CONFIG": "",  # its lines are not this version's
    }
    with Gunicorn(environment, directory, workers=1, code=code_of(request.param)) as gunicorn:
        pair = Pair(Served(gunicorn, new.dataset), new)
        for served in (pair.old, pair.new):
            served.wait_for_metric(r'servease_cache_mode\{mode="both"\}', 1)
        assert pair.old.get("/api/v1/health/").json["version"] == request.param
        yield pair


def rename(dataset: Dataset, customer: str, name: str) -> None:
    """Give a customer another name in the customer service."""
    dataset.fake_services.customers.put({"id": customer, "full_name": name, "email": "x@example.com"})


def customer_of(dataset: Dataset) -> tuple[str, str]:
    """Return a new customer's id, and the path of an appointment of theirs."""
    customer = new_id()
    rename(dataset, customer, "First")
    return customer, f"/api/v1/appointments/{dataset.appointment(customer_id=customer)}/"


def name_at(served: Served, path: str) -> str:
    """Return the customer's name as a service shows it."""
    answer = served.get(path)
    assert answer.status == 200, served.gunicorn.read_log()
    return str(answer.json["customer_name"])


def shows(served: Served, path: str, name: str) -> bool:
    """Return whether a service shows the customer under this name."""
    return name_at(served, path) == name


def invalidate(served: Served, customer: str) -> None:
    """Invalidate a customer over HTTP."""
    body = {"entity": "customer", "ids": [customer]}
    assert served.ask("POST", INVALIDATE, body, bearer=ADMIN).json == {"invalidated": 1}


def test_both_are_ready(pair: Pair) -> None:
    """With the tables of the present version."""
    for served in (pair.old, pair.new):
        answer = served.get("/api/v1/health/ready/")
        assert (answer.status, answer.json["status"]) == (200, "ready")


def test_an_invalidation_by_one_reaches_the_other(pair: Pair, valkey: EmbeddedValkey) -> None:
    """Over HTTP by either, and by a plain PUBLISH that either may carry out."""
    customer, path = customer_of(pair.new.dataset)
    both = (pair.old, pair.new)
    with Redis.from_url(valkey.url(1)) as server:
        ways: dict[str, Callable[[], object]] = {
            "by the old": lambda: invalidate(pair.old, customer),
            "by the new": lambda: invalidate(pair.new, customer),
            "by PUBLISH": lambda: server.publish(CHANNEL, f"customer_{customer}"),
            "by pattern": lambda: server.publish(CHANNEL, '{"pattern": "customer_*"}'),
        }
        for name, send in ways.items():
            assert len({name_at(served, path) for served in both}) == 1
            rename(pair.new.dataset, customer, name)
            send()
            for served in both:
                assert wait_until(partial(shows, served, path, name), timeout_s=10), name


def test_what_one_has_stored_the_other_reads(pair: Pair) -> None:
    """From Redis: no service is asked again. On a busy machine, a worker may give up on storing a value."""

    def reads_what_is_stored(first: Served, second: Served) -> bool:
        _, path = customer_of(pair.new.dataset)
        first.get(path)
        return re.search(r"l2=[12] upstream=0 stale=0", second.get(path).headers["X-Cache"]) is not None

    for first, second in pair.both_ways:
        assert wait_until(partial(reads_what_is_stored, first, second), timeout_s=10)


def test_a_load_that_one_began_stores_nothing_after_an_invalidation_by_the_other(pair: Pair) -> None:
    """The fences of both versions are the same keys."""
    customers = pair.new.dataset.fake_services.customers
    for loader, other in pair.both_ways:
        customer, path = customer_of(pair.new.dataset)
        customers.rule(customer, hold=True)
        reader = threading.Thread(target=loader.get, args=(path,))
        reader.start()
        customers.wait_for(held=1)
        customers.rule(
            customer, body=f'{{"id": "{customer}", "full_name": "Second", "email": "x@example.com"}}'
        )
        invalidate(other, customer)
        customers.release()
        reader.join()
        for served in (other, loader):
            assert name_at(served, path) == "Second"


def test_bookings_of_both_are_one_feed(pair: Pair) -> None:
    """The database writes events also for workers that know nothing of them."""
    dataset = pair.new.dataset
    booked = []
    for served in (pair.old, pair.new):
        answer = served.ask("POST", "/api/v1/appointments/", dataset.booking())
        assert answer.status == 201, answer.body
        booked.append(answer.json["id"])
        again = pair.new.get(f"/api/v1/appointments/{booked[-1]}/").headers["ETag"]
        tag = {"If-Match": pair.old.get(f"/api/v1/appointments/{booked[-1]}/").headers["ETag"]}
        assert again.startswith(tag["If-Match"][:-1])
        noted = pair.new.ask(
            "PATCH", f"/api/v1/appointments/{booked[-1]}/", {"customer_notes": "x"}, headers=tag
        )
        assert noted.status == 200
    events = pair.new.get("/api/v1/appointments/changes/?page_size=500").json["results"]
    assert [e["appointment_id"] for e in events if e["event"] == "booked"][-2:] == booked
