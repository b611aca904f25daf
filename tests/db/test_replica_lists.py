"""The API with a replica: which requests it answers, in two workers, while it shows nothing new."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from flask import Flask
from sqlalchemy import create_engine
from werkzeug.test import TestResponse

from servease_appt.app import create_app
from servease_appt.container import EXTENSION, Container
from servease_appt.db.connections import psycopg2_url
from servease_appt.db.replica import ReplicaState
from servease_appt.doctor import database_checks
from servease_appt.doctor.findings import Level
from servease_appt.extension import ServEase
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from tests.db.replicated import LIMIT_S, Replicated, keep_marks
from tests.support.dataset import Asker, Dataset, token
from tests.support.served import settings

LISTS = (
    "/appointments/",
    "/appointments/?cursor=*",
    "/appointments/customer_appointments/?customer_id={customer}",
    "/appointments/employee_schedule/?employee_id={employee}",
    "/appointments/employee_schedule/?employee_id={employee}&page=1",
    "/appointments/employee/{employee}/",
    "/appointments/vehicle_history/?vehicle_id={vehicle}",
    "/appointments/stats/",
)


class Workers:
    """Two applications of one service: what one writes, the other is asked for."""

    def __init__(self, apps: list[Flask], fake_services: FakeServices) -> None:
        self.one, self.other = (Dataset(app, fake_services) for app in apps)

    def counted(self, worker: Dataset) -> dict[str, float]:
        """Return how many lists a worker has read, by outcome."""
        lines = worker.container.metrics.text().decode().splitlines()
        prefix = 'servease_list_reads_total{outcome="'
        found = (line.removeprefix(prefix).split('"} ') for line in lines if line.startswith(prefix))
        return {outcome: float(n) for outcome, n in found}


@pytest.fixture
def workers(servers: Replicated, redis_url: str, fake_services: FakeServices) -> Iterator[Workers]:
    """Both read from the replica."""
    keep_marks(redis_url, "appointment_service")
    more = {"DATABASE_REPLICA_URL": servers.replica.url(), "DATABASE_REPLICA_MAX_LAG": "5"}
    with ExitStack() as to_close:
        apps = []
        for _ in range(2):
            apps.append(
                create_app(
                    Settings.from_mapping(settings(servers.primary.url(), redis_url, fake_services, **more))
                )
            )
            to_close.callback(apps[-1].extensions[EXTENSION].close)
        both = Workers(apps, fake_services)
        for worker in (both.one, both.other):
            assert wait_until(partial(reads_from_replica, worker), timeout_s=LIMIT_S)
        yield both


def reads_from_replica(worker: Dataset) -> bool:
    assert worker.ada.get("/appointments/").status_code == 200
    replica = worker.container.list_reads.replica
    return replica is not None and replica.state is ReplicaState.OK


def same_user(user_id: str, role: str, worker: Dataset) -> Asker:
    """A user of one worker asks the other one."""
    return Asker(worker.app, token(user_id=user_id, user_role=role))


def listed(answer: TestResponse) -> set[str]:
    return {row["id"] for row in answer.get_json()["results"]}


def test_lists_and_numbers_are_the_replicas(servers: Replicated, workers: Workers) -> None:
    """All of them, and nothing else: a detail, a page that follows by its cursor, slots and history are not."""
    worker = workers.other
    appointment = worker.appointment(assigned_employee_id=worker.erin_id)
    ids = {"customer": worker.alice_id, "employee": worker.erin_id, "vehicle": worker.alices_car}
    servers.catch_up()

    def is_from_replica(path: str) -> bool:
        before = workers.counted(worker)["replica"]
        answer = worker.ada.get(path)
        assert answer.status_code == 200, (path, answer.get_data())
        return workers.counted(worker)["replica"] == before + 1

    for path in LISTS:
        assert wait_until(partial(is_from_replica, path.format(**ids)), timeout_s=LIMIT_S), path

    worker.appointment()
    servers.catch_up()
    following = worker.ada.get("/appointments/?cursor=*&page_size=1").get_json()["next"]
    counted = workers.counted(worker)
    for path in (
        following.removeprefix("http://localhost/api/v1"),
        f"/appointments/{appointment}/",
        f"/appointments/{appointment}/history/",
        "/appointments/changes/",
        "/time-slots/",
        "/health/ready/",
    ):
        assert worker.ada.get(path).status_code == 200, path
        assert workers.counted(worker) == counted, path


def test_who_has_written_sees_it_in_the_next_list(servers: Replicated, workers: Workers) -> None:
    """A booking, and an action, in whichever worker; others see it when the replica has it."""
    one, other = workers.one, workers.other
    with servers.replay_paused():
        booked = one.alice.post("/appointments/", one.booking())
        assert booked.status_code == 201, booked.get_json()
        appointment = booked.get_json()["id"]
        alice, ada = same_user(one.alice_id, "customer", other), same_user(one.ada_id, "admin", other)
        bystander = other.ada
        assert appointment in listed(alice.get("/appointments/"))
        assert wait_until(
            lambda: appointment not in listed(bystander.get("/appointments/?page_size=100")),
            timeout_s=LIMIT_S,
        )

        assert one.ada.post(f"/appointments/{appointment}/confirm/").status_code == 200
        assert appointment in listed(ada.get("/appointments/?status=confirmed&page_size=100"))
        assert workers.counted(other)["own_write"] == 2
    servers.catch_up()
    assert appointment in listed(bystander.get("/appointments/?page_size=100"))


def test_a_host_with_an_engine_of_its_own(
    servers: Replicated, redis_url: str, fake_services: FakeServices
) -> None:
    """The primary is the host's engine, and the replica is given by URL."""
    keep_marks(redis_url, "appointment_service")
    given = settings("", redis_url, fake_services, DATABASE_REPLICA_URL=servers.replica.url())
    host = Flask("host")
    host.config.update({f"SERVEASE_{name}": value for name, value in given.items()})
    engine = create_engine(psycopg2_url(servers.primary.url()))
    ServEase().init_app(host, engine=engine)
    container: Container = host.extensions[EXTENSION]
    try:
        in_recovery = "SELECT pg_is_in_recovery()"
        assert wait_until(
            lambda: container.list_reads.read("host", lambda c: c.exec_driver_sql(in_recovery).scalar_one()),
            timeout_s=LIMIT_S,
        )
    finally:
        container.close()
        engine.dispose()


def test_operators_see_its_state(servers: Replicated, workers: Workers) -> None:
    """Readiness names it and stays as it is; the doctor measures how far it is behind."""
    container: Container = workers.one.container
    assert wait_until(lambda: reads_from_replica(workers.one), timeout_s=LIMIT_S)
    ready = workers.one.nobody.get("/health/ready/")
    assert (ready.status_code, ready.get_json()["checks"]["replica"]) == (200, "ok")
    found = list(database_checks.check_replica(container))
    assert [finding.level for finding in found] == [Level.OK]

    status = ready.get_json()["status"]
    servers.replica.kill()
    try:
        assert workers.one.ada.get("/appointments/").status_code == 200
        (finding,) = database_checks.check_replica(container)
        assert finding.level is Level.WARNING
        assert "can't be used" in finding.says
        ready = workers.one.nobody.get("/health/ready/")
        assert (ready.status_code, ready.get_json()["checks"]["replica"]) == (200, "unavailable")
        assert ready.get_json()["status"] == status
    finally:
        servers.replica.restart()
