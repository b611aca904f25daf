"""The fake upstream services."""

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from servease_appt.testing.fake_services import FakeService, FakeServices
from servease_appt.testing.processes import ProcessError

ID = "6f1c0a52-57c3-4c6f-9d3a-0a2b6a1f4e10"
OWN_ID = "0b54e7cc-3f0e-4f41-8e0c-77a1d4a8b3f9"
PATH = f"/api/v1/employees/{ID}/basic/"


def get(service: FakeService, path: str = PATH, token: str | None = "a.b.c") -> requests.Response:  # noqa: S107
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return requests.get(service.url + path, headers=headers, timeout=10)


def test_what_they_know(fake_services: FakeServices) -> None:
    """Each service answers at the platform's paths in the platform's words, and 404 for the rest."""
    fake_services.customers.put(
        {"id": ID, "own_id": OWN_ID, "full_name": "Ada King", "email": "ada@example.com"}
    )
    fake_services.employees.put({"id": ID, "full_name": "Grace Hopper"})
    fake_services.vehicles.put(
        {"id": ID, "year": 2021, "make": "Kia", "model": "Picanto", "customer_id": OWN_ID}
    )

    by_account = get(fake_services.customers, f"/api/v1/customers/logical/{ID}/").json()
    by_own_id = get(fake_services.customers, f"/api/v1/customers/{OWN_ID}/").json()
    vehicle = get(fake_services.vehicles, f"/api/v1/vehicles/{ID}/").json()

    assert (by_account["id"], by_account["user_id"], by_account["user_email"]) == (
        OWN_ID,
        ID,
        "ada@example.com",
    )
    assert (by_own_id["id"], by_own_id["email"]) == (ID, "ada@example.com")
    assert by_account["full_name"] == by_own_id["full_name"] == "Ada King"
    assert (vehicle["vehicle_id"], vehicle["year"], vehicle["customer_id"]) == (ID, 2021, OWN_ID)
    assert get(fake_services.employees).json()["full_name"] == "Grace Hopper"
    assert get(fake_services.employees, "/api/v1/employees/other/basic/").status_code == 404


def test_a_token_is_needed(fake_services: FakeServices) -> None:
    """Without a bearer token the answer is 401; which tokens came is remembered."""
    fake_services.employees.put({"id": ID, "full_name": "Grace Hopper"})

    assert get(fake_services.employees, token=None).status_code == 401
    assert get(fake_services.employees).status_code == 200
    assert fake_services.employees.tokens() == {"a.b.c"}


def test_rules(fake_services: FakeServices) -> None:
    """A rule changes what matching calls are answered, for good or for some calls; the latest one counts."""
    employees = fake_services.employees
    employees.put({"id": ID, "full_name": "Grace Hopper"})
    employees.rule(status=503, headers={"Retry-After": "7"})
    employees.rule(ID, body="not json", times=1)

    assert get(employees).text == "not json"
    assert get(employees).headers["Retry-After"] == "7"
    employees.rule(drop=True)
    with pytest.raises(requests.ConnectionError):
        get(employees)
    employees.reset()
    employees.put({"id": ID, "full_name": "Rear Admiral Hopper"})
    assert get(employees).json()["full_name"] == "Rear Admiral Hopper"
    employees.remove(ID)
    assert get(employees).status_code == 404


def test_holding_calls(fake_services: FakeServices) -> None:
    """Held calls wait until they are released, and a test can wait until they have come in."""
    employees = fake_services.employees
    employees.put({"id": ID, "full_name": "Grace Hopper"})
    employees.rule(hold=True)
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(get, employees) for _ in range(3)]
        employees.wait_for(held=3)
        assert not any(answer.done() for answer in answers)
        employees.release()
        assert [answer.result(10).status_code for answer in answers] == [200] * 3

    assert employees.calls() == {PATH: 3}
    assert get(employees).status_code == 200
    with pytest.raises(TimeoutError):
        employees.wait_for(calls=5, timeout_s=0.05)
    employees.forget_calls()
    assert fake_services.total_calls() == 0


def test_a_crowd(fake_services: FakeServices) -> None:
    """64 calls of 50 ms at once take little more than 50 ms: the fake is not what is measured."""
    employees = fake_services.employees
    employees.delay(0.05)
    together = threading.Barrier(64)
    took: list[float] = []

    def call() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", employees.port, timeout=10)
        connection.connect()
        together.wait()
        began = time.perf_counter()
        connection.request("GET", PATH, headers={"Authorization": "Bearer a.b.c"})
        connection.getresponse().read()
        took.append(time.perf_counter() - began)
        connection.close()

    threads = [threading.Thread(target=call) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert min(took) >= 0.05
    assert sorted(took)[32] < 0.15


def test_restart(own_fake_services: FakeServices) -> None:
    """A stopped service refuses connections, and comes back at its address."""
    vehicles = own_fake_services.vehicles
    url = vehicles.url
    vehicles.stop()
    with pytest.raises(requests.ConnectionError):
        get(vehicles)
    vehicles.restart()

    assert vehicles.url == url
    assert get(vehicles).status_code == 404


def test_a_taken_port(own_fake_services: FakeServices) -> None:
    """Starting on a port that somebody listens on fails and says so."""
    with pytest.raises(ProcessError, match=r"(?i)address already in use"):
        FakeServices(ports=(own_fake_services.customers.port, 0, 0)).__enter__()


def test_a_wrong_order(fake_services: FakeServices) -> None:
    """A mistake in steering a fake is an error of the test, not silence."""
    with pytest.raises(ValueError, match="KeyError"):
        fake_services.vehicles.put({"id": ID})
