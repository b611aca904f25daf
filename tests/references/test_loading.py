"""The services behind their breakers: a service that hangs costs the names of the others nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from servease_appt.cache import CachePolicy, TwoTierCache, connect
from servease_appt.cache.breaker import BreakerState
from servease_appt.clients import Upstreams
from servease_appt.references.enrichment import Lookups, PageNames
from servease_appt.references.entities import CODECS
from servease_appt.testing.fake_services import FakeServices
from tests.support.dataset import new_id

PAGES = 6
ROWS = 20


@pytest.fixture
def lookups(redis_url: str, fake_services: FakeServices) -> Iterator[Lookups]:
    """Lookups that allow a second and a half for the calls of a page."""
    policy = CachePolicy(load_timeout_s=1.5, soft_timeout_s=0.4)
    cache = TwoTierCache(
        connect(redis_url), CODECS, prefix="appointment_service", policy=policy, owns_client=True
    )
    upstreams = Upstreams.from_urls(
        customer_service_url=fake_services.customers.url,
        employee_service_url=fake_services.employees.url,
        vehicle_service_url=fake_services.vehicles.url,
        timeout_s=policy.load_timeout_s,
        pool_size=policy.max_loads,
    )
    yield Lookups(cache, upstreams)
    fake_services.vehicles.release()
    cache.close()
    upstreams.close()


def test_a_service_that_hangs_costs_the_others_nothing(lookups: Lookups, fake_services: FakeServices) -> None:
    """Several cold pages at once: all names of the healthy services are there, and their breakers stay closed."""
    customers, employees = ([new_id() for _ in range(ROWS)] for _ in range(2))
    fake_services.customers.put(
        *({"id": id_, "full_name": "Cat", "email": "c@example.com"} for id_ in customers)
    )
    fake_services.employees.put(*({"id": id_, "full_name": "Elk"} for id_ in employees))
    fake_services.vehicles.rule(hold=True)

    def page(_: int) -> PageNames:
        vehicles = [new_id() for _ in range(ROWS)]
        return lookups.page_names(customers, vehicles, employees, "token", "list")

    with ThreadPoolExecutor(PAGES) as threads:
        pages = list(threads.map(page, range(PAGES)))

    for names in pages:
        assert set(names.customers.values()) == {"Cat"}
        assert {names.employees[id_] for id_ in employees} == {"Elk"}
        assert set(names.vehicles.values()) == {""}
    assert lookups.breaker_states() == {
        "customer": BreakerState.CLOSED,
        "vehicle": BreakerState.OPEN,
        "employee": BreakerState.CLOSED,
    }
