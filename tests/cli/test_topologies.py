"""Every command on a single server, under Sentinel and on a cluster, with a worker that answers."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from servease_appt.cache import Mode, connect
from servease_appt.container import EXTENSION
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.cache.cluster_setup import ClusterSetup
from tests.cache.sentinel_setup import SentinelSetup
from tests.support.cli import Cli
from tests.support.dataset import Asker, token
from tests.support.served import settings
from tests.support.worker_process import worker_process

ID = "7f3f6d5e-0f5f-4f6e-9f59-6a2f0c1d2e3f"
KEY = f"customer_{ID}"
NAME = f"appointment_service:{KEY}"
VALUE = f'{{"id": "{ID}", "full_name": "Ann Lee", "email": "ann@example.com"}}'


@pytest.fixture(scope="module", params=["single", "sentinel", "cluster"])
def cli(
    request: pytest.FixtureRequest,
    running_fake_services: FakeServices,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cli]:
    """The commands in the environment of one worker, which listens."""
    with ExitStack() as stack:
        if request.param == "single":
            url = stack.enter_context(EmbeddedValkey()).url(1)
        elif request.param == "sentinel":
            directory = Path(tmp_path_factory.mktemp("sentinel"))
            url = stack.enter_context(SentinelSetup(directory, password="p", sentinel_password="q")).url()
        else:
            cluster: ClusterSetup = request.getfixturevalue("cluster")
            for node in cluster.nodes:
                cluster.do(node, "FLUSHALL")
            url = cluster.url()
        environment = settings("postgresql://postgres@127.0.0.1:1/none", url, running_fake_services)
        stack.enter_context(worker_process(environment))
        yield stack.enter_context(Cli(environment))


@pytest.fixture
def client(cli: Cli) -> Iterator[Any]:
    """An operator's client, and one stored value."""
    with closing(connect(cli.environment["REDIS_URL"], timeout_s=2.0)) as client:
        client.set(NAME, VALUE, ex=100)
        yield client


def test_commands_that_read(cli: Cli, client: Any) -> None:
    """keys, get, ttl, exists, explain and stats."""
    assert client.exists(NAME)
    assert KEY in cli.run("keys", "customer_*").output
    assert "Ann Lee" in cli.run("get", "customer", ID).output
    assert cli.run("ttl", "customer", ID).output
    assert cli.run("exists", "customer", ID).output
    assert "Ann Lee" in cli.run("explain", "customer", ID).output
    assert "127.0.0.1" not in cli.run("stats").stderr
    assert len(cli.json("stats")["workers"]) == 1


def test_invalidate_is_acknowledged_by_the_worker(cli: Cli, client: Any) -> None:
    """The value is deleted, and the one worker has answered."""
    result = cli.run("invalidate", "customer", ID)
    assert not client.exists(NAME)
    assert "HANDLED WITHIN" in result.output


def test_l1_is_switched_off_and_on(cli: Cli) -> None:
    """On a cluster the switch is on the node that the worker's channel is connected to."""
    assert len(cli.json("l1", "off")["followed"]) == 1
    assert cli.json("l1", "on")["not_confirmed"] == []


def test_clear_deletes_everything(cli: Cli, client: Any) -> None:
    """On every node."""
    cli.run("clear", "--yes")
    assert not client.exists(NAME)


def test_the_doctor_finds_no_problem_with_redis_or_workers(cli: Cli) -> None:
    """The database does not run here; Redis and the worker do."""
    findings = cli.json("doctor", exit_code=1)["findings"]
    wrong = [f for f in findings if f["area"] in ("redis", "workers") and f["level"] == "problem"]
    assert not wrong
    assert any(f["says"].startswith("1 listening, 1 registered, 1 answered") for f in findings)


def test_monitor_shows_what_happens_on_every_node(cli: Cli, client: Any) -> None:
    """Values whose keys are on the three nodes of a cluster are deleted by hand."""
    keys = [f"customer_{number:08x}-0f5f-4f6e-9f59-6a2f0c1d2e3f" for number in (0, 1, 33)]
    for key in keys:
        client.set(f"appointment_service:{key}", VALUE, ex=100)
    with cli.process("monitor", "--json") as monitor:
        monitor.wait_for("Watching 1 worker")
        for key in keys:
            client.delete(f"appointment_service:{key}")
            assert monitor.wait_for_event(event="deleted", key=key)["worker"] == "redis"
        assert monitor.interrupt() == 0


def test_the_link_to_the_dashboard(cli: Cli) -> None:
    """Its one-time link is stored in Redis."""
    assert "/ops/cache/" in cli.run("dashboard").output


def test_the_dashboard_and_the_metrics_of_a_second_worker(cli: Cli, client: Any) -> None:
    """Its figures are of both workers, and its keys are of every node of a cluster."""
    keys = {f"customer_{number:08x}-0f5f-4f6e-9f59-6a2f0c1d2e3f" for number in (0, 1, 33)}
    for key in keys:
        client.set(f"appointment_service:{key}", VALUE, ex=100)
    named = {"entity": "customer", "id": ID}
    with Cli(cli.environment) as worker:
        cache = worker.app.extensions[EXTENSION].lookups.cache
        cache.start()
        assert wait_until(lambda: cache.mode == Mode.BOTH, timeout_s=20)
        admin = Asker(worker.app, token(user_role="admin"))
        shown = admin.get("/ops/cache/data").get_json()
        listed, cursor = set(), "0.0"
        while cursor is not None:
            page = admin.get(f"/ops/cache/keys?entity=customer&cursor={cursor}").get_json()
            listed |= {row["key"] for row in page["rows"]}
            cursor = page["cursor"]
        explained = admin.post("/ops/cache/explain", named).get_json()
        dropped = admin.post("/ops/cache/invalidate", named).get_json()
        metrics = Asker(worker.app, None).get("/metrics/").get_data(as_text=True)
    assert shown["workers_expected"] == 2
    assert [(row["mode"], row["behind"], row["refusal"]) for row in shown["workers"]] == [
        ("both", 0, None)
    ] * 2
    assert shown["l2_entries"]["customer"] == len(keys | {KEY})
    assert listed == keys | {KEY}
    assert explained["l2"]["there"]
    assert len(explained["workers"]) == len(dropped["workers"]) == 2
    assert not client.exists(NAME)
    assert 'servease_cache_mode{mode="both"} 1.0' in metrics
    assert 'servease_breaker_state{breaker="redis",state="closed"} 1.0' in metrics
