"""Commands that go on until Ctrl-C, or can be stopped by it: monitor, stats --watch, warm."""

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from servease_appt.testing.servers import EmbeddedValkey, free_port
from tests.support.cli import Cli
from tests.support.dataset import TODAY, Dataset, new_id
from tests.support.served import Served

PREFIX = "appointment_service"


@pytest.fixture
def dataset(served: Served, client: redis.Redis) -> Iterator[Dataset]:
    """An empty cache, empty tables, and services that know only people of this test's own."""
    client.flushdb()
    fake_services = served.dataset.fake_services
    fake_services.reset()
    dataset = Dataset(served.dataset.app, fake_services)
    dataset.clear()
    yield dataset
    fake_services.reset()


def test_monitor_shows_what_workers_and_other_hands_do(
    cli: Cli, dataset: Dataset, served: Served, client: redis.Redis
) -> None:
    """A fill, an invalidation as each worker handles it, a DEL, an expiry, a flush, workers that come and go."""
    customer, vehicle = f"customer_{dataset.alice_id}", f"vehicle_{dataset.alices_car}"
    dataset.appointment()
    with cli.process("monitor", "--json") as monitor:
        monitor.wait_for("Watching 2 workers")

        served.get("/api/v1/appointments/")
        fills = [monitor.wait_for_event(event="fill", tier="l2") for _ in range(2)]
        assert {fill["key"] for fill in fills} == {customer, vehicle}
        assert fills[0]["worker"].split(":")[1] in map(str, served.gunicorn.worker_pids())
        assert fills[0]["at"].endswith("Z")

        client.publish(f"{PREFIX}:invalidate", customer)
        assert monitor.wait_for_event(event="published", key=customer)["why"] == "by another client"
        workers = {
            monitor.wait_for_event(event="invalidation", key=customer, why="from outside")["worker"]
            for _ in range(2)
        }
        assert len(workers) == 2

        client.delete(f"{PREFIX}:{vehicle}")
        assert (
            "before its TTL ended: deleted by another client"
            in monitor.wait_for_event(event="deleted", key=vehicle)["why"]
        )

        client.set(f"{PREFIX}:{vehicle}", "{}", px=150)
        assert monitor.wait_for_event(event="expired", key=vehicle)["worker"] == "redis"

        client.flushdb()
        monitor.wait_for_event(event="flush", key="*", worker="redis")

        client.hset(f"{PREFIX}:__workers", "elsewhere:1:aa", "{}")
        monitor.wait_for_event(event="joined", worker="elsewhere:1:aa")
        client.hdel(f"{PREFIX}:__workers", "elsewhere:1:aa")
        monitor.wait_for_event(event="left", worker="elsewhere:1:aa")

        assert monitor.interrupt() == 0


def test_monitor_says_why_a_message_can_t_be_read(cli: Cli, dataset: Dataset, client: redis.Redis) -> None:
    """A neighbour who publishes something else is told by this; what can be read of a list is carried out."""
    vehicle = f"vehicle_{uuid.uuid4()}"
    with cli.process("monitor", "--json") as monitor:
        monitor.wait_for("Watching 2 workers")
        for message, why in (
            ("customer 42", "customer 42 is not a key of customer, vehicle or employee"),
            ("customer_42", "customer_42 is not a key of customer, vehicle or employee"),
            ('{"ids": []}', 'needs "keys", a list of 1 to 10000, or "pattern"'),
            (json.dumps({"keys": [vehicle.upper().replace("VEHICLE", "vehicle"), 5]}), "1 key of the list"),
        ):
            client.publish(f"{PREFIX}:invalidate", message)
            assert why in monitor.wait_for_event(event="unreadable", worker="redis")["why"]
        monitor.wait_for_event(event="published", key=vehicle)

        assert monitor.interrupt() == 0


def test_monitor_for_people_shows_one_entity(cli: Cli, dataset: Dataset, client: redis.Redis) -> None:
    """One line each, with time, worker, tier and reason; what is of another entity is left out."""
    employee, vehicle = f"employee_{uuid.uuid4()}", f"vehicle_{uuid.uuid4()}"
    with cli.process("monitor", "--entity", "vehicle") as monitor:
        monitor.wait_for("Watching 2 workers")
        client.publish(f"{PREFIX}:invalidate", employee)
        client.publish(f"{PREFIX}:invalidate", json.dumps({"keys": [vehicle]}))
        line = monitor.wait_for(vehicle)

        assert line.split()[1:5] == ["redis", "channel", "published", vehicle]
        assert monitor.interrupt() == 0
    assert employee not in monitor.rest()


def test_monitor_goes_on_when_redis_comes_back(cli: Cli, own_valkey: EmbeddedValkey) -> None:
    """A restart of Redis is what one wants to watch: it must not end the watching."""
    with (
        Cli({**cli.environment, "REDIS_URL": own_valkey.url(1)}) as other,
        other.process("monitor") as monitor,
    ):
        monitor.wait_for("Watching 0 workers")
        own_valkey.kill()
        monitor.wait_for("Trying again.")
        own_valkey.restart()
        monitor.wait_for("Watching 0 workers")
        with redis.Redis.from_url(own_valkey.url(1)) as client:
            client.publish(f"{PREFIX}:invalidate", f"customer_{uuid.uuid4()}")
        monitor.wait_for("published")

        assert monitor.interrupt() == 0


def test_stats_watch_refreshes_until_it_is_interrupted(cli: Cli, dataset: Dataset, served: Served) -> None:
    """One JSON object a line, each newer than the last."""
    dataset.appointment()
    with cli.process("stats", "--watch", "--json", "--interval", "0.2") as watch:
        first = json.loads(watch.wait_for("{"))
        served.get("/api/v1/appointments/")
        while json.loads(watch.wait_for("{"))["reads"]["asked"] != first["reads"]["asked"] + 2:
            pass

        assert watch.interrupt() == 0


def _book(dataset: Dataset, n: int) -> list[str]:
    """Appointments of as many customers, all with Alice's car."""
    customers = [new_id() for _ in range(n)]
    dataset.fake_services.customers.put(
        *({"id": id_, "full_name": f"Customer {id_}", "email": ""} for id_ in customers)
    )
    for id_ in customers:
        dataset.appointment(customer_id=id_)
    return customers


def test_warm_fetches_what_open_appointments_need(cli: Cli, dataset: Dataset, client: redis.Redis) -> None:
    """From today on, most needed first, each once; what is over or cancelled needs nothing. Then it is there."""
    _book(dataset, 3)
    dataset.appointment(customer_id=dataset.bob_id, vehicle_id=dataset.bobs_car, status="cancelled")
    dataset.appointment(customer_id=dataset.bob_id, scheduled_date=TODAY - timedelta(days=1))
    dataset.appointment(vehicle_id=new_id(), assigned_employee_id=dataset.erin_id)

    first = cli.json("warm", "--limit", "1")
    done = cli.json("warm")

    assert first["entities"] == {"vehicle": {"fetched": 1, "there_already": 0, "none_exists": 0, "failed": 0}}
    assert done["entities"] == {
        "vehicle": {"fetched": 0, "there_already": 1, "none_exists": 1, "failed": 0},
        "customer": {"fetched": 4, "there_already": 0, "none_exists": 0, "failed": 0},
        "employee": {"fetched": 1, "there_already": 0, "none_exists": 0, "failed": 0},
    }
    assert client.exists(f"{PREFIX}:vehicle_{dataset.alices_car}")
    assert not client.exists(f"{PREFIX}:customer_{dataset.bob_id}")
    assert dataset.fake_services.vehicles.calls()[f"/api/v1/vehicles/{dataset.alices_car}/"] == 1

    calls = dataset.fake_services.total_calls()
    again = cli.run("warm")

    assert dataset.fake_services.total_calls() == calls
    assert "ALREADY CACHED" in again.stdout
    assert "Warming 7 keys." in again.stderr
    assert "7 of 7" in again.stderr
    (employee,) = cli.json("warm", "--entity", "employee")["entities"]
    assert employee == "employee"


def test_warm_uses_the_services_own_token(cli: Cli, dataset: Dataset) -> None:
    """Nobody is logged in at a shell."""
    import jwt

    dataset.appointment()
    dataset.fake_services.vehicles.rule(status=403)
    done = cli.json("warm")

    (token,) = dataset.fake_services.customers.tokens()
    claims = jwt.decode(token, cli.environment["SECRET_KEY"], algorithms=["HS256"])
    assert claims["user_role"] == "service"
    assert done["entities"]["vehicle"]["failed"] == 1
    assert done["denied"] == {"vehicle": 1}


def test_warm_asks_no_more_at_once_than_a_worker_does(
    cli: Cli, dataset: Dataset, client: redis.Redis
) -> None:
    """64 calls side by side; the next begin when these are answered. It is no worker: it listens to nothing."""
    _book(dataset, 100)
    dataset.fake_services.customers.rule(hold=True, times=64)
    with cli.process("warm", "--entity", "customer") as warm:
        dataset.fake_services.customers.wait_for(held=64)
        assert sum(dataset.fake_services.customers.calls().values()) == 64
        assert client.pubsub_numsub(f"{PREFIX}:__ask") == [(f"{PREFIX}:__ask".encode(), 2)]
        dataset.fake_services.customers.release()

        assert warm.end() == 0
    assert sum(dataset.fake_services.customers.calls().values()) == 100


def test_warm_can_be_interrupted_and_run_again(cli: Cli, dataset: Dataset) -> None:
    """Ctrl-C keeps what has been fetched, tells how far it came, and the next run takes it from there."""
    customers = _book(dataset, 150)
    with cli.process("warm", "--entity", "customer") as warm:
        warm.wait_for("64 of 150")
        dataset.fake_services.customers.rule(hold=True)
        dataset.fake_services.customers.wait_for(held=1)
        assert warm.interrupt() == 1
        output = warm.rest()
    dataset.fake_services.customers.reset()
    dataset.fake_services.customers.put(*({"id": id_, "full_name": "C", "email": ""} for id_ in customers))

    assert "Run it again to continue." in output
    assert "Traceback" not in output
    done = cli.json("warm", "--entity", "customer")["entities"]["customer"]
    assert done["there_already"] >= 64
    assert done["fetched"] == 150 - done["there_already"] > 0


def test_warm_fails_when_nothing_can_be_fetched(cli: Cli, dataset: Dataset) -> None:
    """One service down is reported; all of them down, or PostgreSQL, is exit code 1."""
    dataset.appointment()
    dataset.fake_services.vehicles.rule(status=500)

    assert cli.json("warm")["entities"]["vehicle"]["failed"] == 1

    cli.run("clear", "--yes")
    dataset.fake_services.customers.rule(status=500)

    assert "Nothing could be loaded" in cli.run("warm", exit_code=1).stderr

    away = {**cli.environment, "DATABASE_URL": f"postgresql://127.0.0.1:{free_port()}/none"}
    with Cli(away) as without_database:
        assert "PostgreSQL" in without_database.run("warm", exit_code=1).stderr


def test_warm_fails_when_redis_stores_nothing(cli: Cli, dataset: Dataset, own_valkey: EmbeddedValkey) -> None:
    """A full Redis answers, so every name is loaded, and none of them is there for the pages that follow."""
    dataset.appointment()
    with (
        Cli({**cli.environment, "REDIS_URL": own_valkey.url(1)}) as other,
        redis.Redis.from_url(own_valkey.url(1)) as client,
    ):
        client.config_set("maxmemory", "1")
        failed = other.run("warm", "--json", exit_code=1)
        client.config_set("maxmemory", "0")

        assert [counts["failed"] for counts in json.loads(failed.stdout)["entities"].values()] == [1, 1]
        assert "Run `cache doctor`" in failed.stderr
        assert [counts["fetched"] for counts in other.json("warm")["entities"].values()] == [1, 1]


def test_warm_with_nothing_ahead_is_done(cli: Cli, dataset: Dataset) -> None:
    """An empty calendar is no failure."""
    assert "Nothing to warm" in cli.run("warm").stdout
