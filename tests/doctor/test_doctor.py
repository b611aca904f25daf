"""The doctor, with one thing broken at a time."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
import redis

from servease_appt.cache import connect
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.worker_queries import WorkerQueries
from servease_appt.container import EXTENSION
from servease_appt.doctor import growth_checks, redis_checks, settings_checks, worker_checks
from servease_appt.doctor.database_checks import check_database
from servease_appt.doctor.findings import Level
from servease_appt.inspection.workers import query_statuses
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey, free_port
from tests.db.platform import appointment
from tests.support.cli import Cli
from tests.support.dataset import SECRET, Dataset, new_id
from tests.support.served import Served
from tests.support.worker_process import worker_process

PREFIX = "appointment_service"


def examine(cli: Cli, worst: str = "problem", **settings: str) -> list[dict[str, Any]]:
    """The findings, with some settings different from the service's; exit code 1 where one asks for something."""
    healthy = worst in ("ok", "note")
    with Cli({**cli.environment, **settings}) as other:
        report = other.json("doctor", exit_code=0 if healthy else 1)
    assert report["healthy"] == healthy
    findings: list[dict[str, Any]] = report["findings"]
    assert worst in {finding["level"] for finding in findings}
    for finding in findings:
        assert (finding["level"] == "ok") == (finding["means"] == ""), finding
    return findings


def of_level(findings: Sequence[dict[str, Any]], *levels: str) -> list[str]:
    """What findings of these levels say."""
    return [finding["says"] for finding in findings if finding["level"] in levels]


def bad(findings: Sequence[dict[str, Any]]) -> list[str]:
    """What calls for action."""
    return of_level(findings, "warning", "problem")


def test_a_healthy_service_has_no_findings(cli: Cli, served: Served, client: redis.Redis) -> None:
    """Exit code 0, and each thing that was looked at is named with what was measured."""
    assert wait_until(lambda: client.hlen(f"{PREFIX}:__workers") == 2, timeout_s=15)
    reports: list[dict[str, Any]] = []

    def is_healthy() -> bool:
        """Not at once on a busy machine, where Redis may really answer too late."""
        reports.append(cli.json("doctor"))
        return bool(reports[-1]["healthy"])

    assert wait_until(is_healthy, timeout_s=30), reports[-1]
    findings = reports[-1]["findings"]
    said = " ".join(finding["says"] for finding in findings)

    assert {finding["area"] for finding in findings} == {
        "redis",
        "workers",
        "services",
        "database",
        "settings",
    }
    assert "2 listening, 2 registered, 2 answered." in said
    for pid in served.gunicorn.worker_pids():
        assert f":{pid}: both" in said
    assert "A test invalidation was handled by" in said
    assert said.count("service at http://") == 3
    assert "as needed" in said

    assert wait_until(lambda: cli.run("doctor").stdout.endswith("All is well.\n"), timeout_s=30)


def test_a_worker_that_was_killed_is_found_and_forgotten(
    cli: Cli, served: Served, client: redis.Redis
) -> None:
    """It could not take itself off the list; the next examination finds nothing any more."""
    victim = served.gunicorn.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    assert wait_until(lambda: victim not in served.gunicorn.worker_pids(), timeout_s=10)
    assert wait_until(lambda: len(_answers(served)) == 2, timeout_s=15, interval_s=0.05)

    (finding,) = bad(examine(cli, worst="warning"))

    assert f":{victim} died without signing off" in finding
    examine(cli, worst="ok")
    assert client.hlen(f"{PREFIX}:__workers") == 2


def _answers(served: Served) -> list[dict[str, Any]]:
    answers = served.dataset.container.lookups.cache.worker_queries.query("heard", timeout_s=0.3)
    return [answer for answer in answers if answer["pid"] in served.gunicorn.worker_pids()]


def test_a_process_number_used_again_does_not_hide_a_dead_worker(
    cli: Cli, served: Served, client: redis.Redis
) -> None:
    """In a container that was restarted, new workers have the old ones' process numbers."""
    worker = cli.json("stats")["workers"][0]
    about = {"pid": worker["pid"], "host": socket.gethostname()}
    former = worker["worker"].rpartition(":")[0] + ":00000000"
    client.hset(f"{PREFIX}:__workers", former, json.dumps(about))

    (finding,) = bad(examine(cli, worst="warning"))

    assert "died without signing off" in finding


def test_a_deaf_worker_is_named(cli: Cli, served: Served) -> None:
    """It runs and is connected, and does not answer: commands go on without it."""
    victim = served.gunicorn.worker_pids()[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        findings = bad(examine(cli))
        heard = cli.json("invalidate", f"customer_{'0' * 8}-0000-0000-0000-{'0' * 12}")
    finally:
        os.kill(victim, signal.SIGCONT)

    assert any("2 listening, 2 registered, 1 answered" in finding for finding in findings)
    assert any(f":{victim} does not answer, although its process runs" in finding for finding in findings)
    assert [worker.split(":")[1] for worker in heard["silent"]] == [str(victim)]
    assert len(heard["handled_by"]) == 1
    assert wait_until(lambda: len(_answers(served)) == 2, timeout_s=10, interval_s=0.05)


def test_a_worker_of_a_host_that_is_gone_is_named(cli: Cli, client: redis.Redis) -> None:
    """Whether it is dead can't be seen from here, so it is not forgotten; the finding says how to do that."""
    client.hset(f"{PREFIX}:__workers", "elsewhere:41:aa", '{"pid": 41, "host": "elsewhere"}')
    try:
        findings = examine(cli, worst="warning")
    finally:
        client.hdel(f"{PREFIX}:__workers", "elsewhere:41:aa")

    (finding,) = [finding for finding in findings if finding["level"] == "warning"]
    assert "elsewhere:41 is registered, but not connected." in finding["says"]
    assert f"HDEL {PREFIX}:__workers elsewhere:41:aa" in finding["do"]


def test_a_service_that_is_down_is_named_with_its_setting(cli: Cli) -> None:
    """A refusal is reported at once, and the rest is examined all the same."""
    findings = examine(cli, VEHICLE_SERVICE_URL=f"http://127.0.0.1:{free_port()}")

    (finding,) = [finding for finding in findings if finding["level"] == "problem"]
    assert "vehicle service" in finding["says"]
    assert "VEHICLE_SERVICE_URL" in finding["do"]


@pytest.mark.parametrize(
    ("checks", "limit", "expected"),
    [
        (redis_checks, "SLOW_MS", "answers in"),
        (redis_checks, "REQUEST_TIMEOUT_MS", "answers in"),
        (worker_checks, "SLOW_MS", "A test invalidation was handled by"),
    ],
)
def test_slow_answers_are_reported(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, checks: ModuleType, limit: str, expected: str
) -> None:
    """Whatever the machine does, an answer takes longer than no time."""
    monkeypatch.setattr(checks, limit, 0.0)
    (says,) = bad(examine(cli, worst="warning"))
    assert expected in says


def test_a_slow_service_and_one_that_refuses_our_token_are_reported(cli: Cli, served: Served) -> None:
    """The latter matters only where pages depend on that token."""
    fake_services: FakeServices = served.dataset.fake_services
    fake_services.vehicles.rule(delay_s=0.4, status=404)
    fake_services.employees.rule(status=403)
    try:
        findings = examine(cli, worst="warning", UPSTREAM_TIMEOUT="0.6")
        with_own_token = examine(cli, UPSTREAM_AUTH="service")
    finally:
        fake_services.reset()

    assert any("vehicle service" in says for says in of_level(findings, "warning"))
    assert any("employee service rejects" in says for says in of_level(findings, "note"))
    assert any("employee service rejects" in says for says in of_level(with_own_token, "problem"))


def test_an_address_where_something_else_answers_404_is_reported(cli: Cli, served: Served) -> None:
    """404 for an id that nobody has says nothing; for those that appointments need, it is no such service."""
    fake_services = served.dataset.fake_services
    fake_services.reset()
    dataset = Dataset(served.dataset.app, fake_services)
    dataset.clear()
    fake_services.vehicles.rule(status=404)
    try:
        examine(cli, worst="ok")
        dataset.appointment()
        (says,) = bad(examine(cli, worst="warning"))
        fake_services.vehicles.reset()
        dataset.clear()
        one_is_known = Dataset(served.dataset.app, fake_services)
        for vehicle in (one_is_known.alices_car, new_id()):
            one_is_known.appointment(vehicle_id=vehicle)
        examine(cli, worst="ok")
    finally:
        fake_services.reset()
        dataset.clear()

    assert says == "It answers 404 for the 1 vehicle that most upcoming appointments need."


def test_a_note_leaves_the_exit_code_at_0(cli: Cli) -> None:
    """It may be meant so: nobody is asked to do anything."""
    findings = examine(cli, worst="note", CACHE_STALE_TIMEOUT="0")

    assert of_level(findings, "note") == ["CACHE_STALE_TIMEOUT=0: no stale copies."]


def test_another_database_and_another_prefix_are_reported(cli: Cli, valkey: EmbeddedValkey) -> None:
    """No worker listens there: the shell and the service disagree."""
    in_zero = bad(examine(cli, REDIS_URL=valkey.url(0)))
    other_prefix = examine(cli, CACHE_KEY_PREFIX="other")

    assert any("Database 0 instead of 1" in says for says in in_zero)
    assert any("2 listening, 0 registered, 0 answered." in says for says in in_zero)
    assert any("No worker listens on other:invalidate" in says for says in of_level(other_prefix, "problem"))
    assert any("CACHE_KEY_PREFIX=other" in says for says in of_level(other_prefix, "note"))


def test_memory_that_runs_out_is_reported(cli: Cli, own_valkey: EmbeddedValkey) -> None:
    """With noeviction, values are refused when it is full; allkeys evicts the cache's own: both are findings."""
    with redis.Redis.from_url(own_valkey.url(1)) as client:
        client.config_set("maxmemory", "100mb")
        refusing = bad(examine(cli, REDIS_URL=own_valkey.url(1)))
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", str(int(client.info("memory")["used_memory"] * 1.05)))
        full = examine(cli, REDIS_URL=own_valkey.url(1))

    assert any("policy noeviction" in says for says in refusing)
    assert any("policy allkeys-lru" in says for says in of_level(full, "note"))
    assert any("% full" in says for says in of_level(full, "warning"))


def test_a_replica_is_reported(cli: Cli, own_valkey: EmbeddedValkey) -> None:
    """It answers everything and takes nothing."""
    with redis.Redis.from_url(own_valkey.url()) as client:
        client.replicaof("127.0.0.1", free_port())
    findings = of_level(examine(cli, REDIS_URL=own_valkey.url(1)), "problem")

    assert any("It is a replica." in says for says in findings)
    assert any("does not accept invalidations" in says for says in findings)


def test_a_worker_without_tracking_is_reported(cli: Cli, served: Served, own_valkey: EmbeddedValkey) -> None:
    """A Redis user without the right to CLIENT TRACKING: a DEL by hand would not reach L1."""
    with redis.Redis.from_url(own_valkey.url()) as client:
        client.execute_command("ACL", "SETUSER", "default", "-client|tracking")
    environment = {**cli.environment, "REDIS_URL": own_valkey.url(1)}
    with worker_process(environment) as pid, redis.Redis.from_url(own_valkey.url(1)) as client:
        assert wait_until(lambda: client.hlen(f"{PREFIX}:__workers") == 1, timeout_s=20)
        findings = bad(examine(cli, worst="warning", REDIS_URL=own_valkey.url(1)))

    effect, cause = findings
    assert f":{pid} is not informed of changes by other Redis clients." in effect
    assert "NOPERM" in cause


def test_the_rate_of_fills_is_measured_on_real_workers(served: Served) -> None:
    settings = Settings.from_mapping(served.gunicorn.settings)
    with connect(settings.redis_url, timeout_s=1.0) as client:
        queries = WorkerQueries(client, KeySpace(settings.cache_key_prefix))
        asked_at_s = time.monotonic()
        statuses = query_statuses(queries).readable
        (finding,) = growth_checks.check(queries, statuses, asked_at_s, few=2)
        assert "2 workers, 0 fills a second" in finding.says
        assert not list(growth_checks.check(queries, statuses, asked_at_s))


def test_with_everything_down_it_still_reports(cli: Cli) -> None:
    """Redis, PostgreSQL and all services away: five problems, at once, and no trace."""
    gone = f"127.0.0.1:{free_port()}"
    started_s = time.monotonic()
    findings = examine(
        cli,
        REDIS_URL=f"redis://:a-password@{gone}/1",
        DATABASE_URL=f"postgresql://me:a-password@{gone}/none",
        CUSTOMER_SERVICE_URL=f"http://{gone}",
        EMPLOYEE_SERVICE_URL=f"http://{gone}",
        VEHICLE_SERVICE_URL=f"http://{gone}",
    )

    assert time.monotonic() - started_s < 4
    problems = [finding for finding in findings if finding["level"] == "problem"]
    assert [finding["area"] for finding in problems] == [
        "redis",
        "services",
        "services",
        "services",
        "database",
    ]
    assert "a-password" not in str(findings)


def test_tables_of_another_version_are_reported(cli: Cli, postgres_url: str) -> None:
    """A database without tables: the finding says what to run."""
    (finding,) = [f for f in examine(cli, DATABASE_URL=postgres_url) if f["level"] == "problem"]

    assert "version none" in finding["says"]
    assert "db upgrade" in finding["do"]


def test_kept_counts_that_are_wrong_are_reported(cli: Cli, migrated_postgres_url: str) -> None:
    """A sample of days is enough to see that rows came past the triggers."""
    with closing(psycopg2.connect(migrated_postgres_url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("ALTER TABLE appointments DISABLE TRIGGER USER")
        cursor.execute(appointment(1))

    (finding,) = [f for f in examine(cli, DATABASE_URL=migrated_postgres_url) if f["level"] == "problem"]

    assert "kept counts" in finding["says"]
    assert "db check --repair" in finding["do"]


def test_events_that_are_not_delivered_are_reported(cli: Cli, migrated_postgres_url: str) -> None:
    """Where the stream is turned on and the oldest has waited for long; not where nobody wants it."""
    with closing(psycopg2.connect(migrated_postgres_url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(appointment(1))
        cursor.execute("UPDATE appointment_events SET occurred_at = occurred_at - INTERVAL '2 minutes'")

    found = {}
    for maxlen in ("10", "0"):
        given = {"DATABASE_URL": migrated_postgres_url, "EVENT_STREAM_MAXLEN": maxlen}
        with Cli({**cli.environment, **given}) as other:
            findings = check_database(other.app.extensions[EXTENSION])
            found[maxlen] = [finding.says for finding in findings if finding.level is Level.PROBLEM]

    assert found["10"][0].startswith("1 booking events are not in the Redis stream, the oldest for 2 min")
    assert found["0"] == []


@pytest.mark.parametrize(
    ("settings", "level", "said"),
    [
        ({"CACHE_L1_TIMEOUT": "400"}, "warning", "CACHE_L1_TIMEOUT=400 is more than CACHE_TIMEOUT=300"),
        ({"CACHE_L1_TIMEOUT": "0"}, "note", "L1 is off"),
        ({"CACHE_STALE_TIMEOUT": "0"}, "note", "no stale copies"),
        ({"CACHE_TRACKING": "0"}, "note", "CACHE_TRACKING=0"),
        ({"CACHE_NEGATIVE_TIMEOUT": "500"}, "warning", "CACHE_NEGATIVE_TIMEOUT=500"),
        ({"CACHE_TIMEOUT": "1", "UPSTREAM_TIMEOUT": "5"}, "warning", "CACHE_TIMEOUT=1 is less than"),
        ({"CACHE_KEY_PREFIX": "mine"}, "note", "CACHE_KEY_PREFIX=mine"),
        ({"SECRET_KEY": "ab" * 20}, "warning", "different characters"),
        ({}, "ok", "No setting contradicts another."),
        ({"REDIS_URL": "rediss://h/1?ssl_cert_reqs=none"}, "warning", "ssl_cert_reqs=none"),
        ({"REDIS_URL": "rediss://:p@h/1?ssl_check_hostname=False"}, "warning", "ssl_check_hostname=False"),
    ],
)
def test_settings_that_are_hardly_meant_are_reported(settings: dict[str, str], level: str, said: str) -> None:
    """Each is allowed by itself."""
    known = Settings.from_mapping({"SECRET_KEY": SECRET, "DATABASE_URL": "postgresql://x/y", **settings})
    found = {finding.level.value: finding.says for finding in settings_checks.check(known)}

    assert said in found[level]


@pytest.mark.parametrize(
    "url", ["rediss://h/1", "rediss://h/1?ssl_cert_reqs=required&ssl_check_hostname=true"]
)
def test_certificates_that_are_checked_are_no_finding(url: str) -> None:
    """redis-py checks them unless an option says otherwise."""
    known = Settings.from_mapping(
        {"SECRET_KEY": SECRET, "DATABASE_URL": "postgresql://x/y", "REDIS_URL": url}
    )

    assert [finding.level.value for finding in settings_checks.check(known)] == ["ok"]


def database_finding(cli: Cli, **settings: str) -> dict[str, Any]:
    """The one problem of PostgreSQL."""
    (finding,) = [f for f in examine(cli, **settings) if f["area"] == "database" and f["level"] == "problem"]
    return finding


def test_each_failure_of_postgresql_is_named_with_its_address(cli: Cli, served: Served) -> None:
    """Refused, a wrong database, a host that nobody knows: three causes and three cures, without the password."""
    url = urlsplit(cli.environment["DATABASE_URL"])
    refused = database_finding(cli, DATABASE_URL=f"postgresql://me:hush@127.0.0.1:{free_port()}/none")
    unknown = database_finding(cli, DATABASE_URL=urlunsplit(url._replace(path="/no_such_database")))
    nowhere = database_finding(cli, DATABASE_URL="postgresql://me:hush@no-such-host.invalid/none")

    assert "me:***@127.0.0.1" in refused["says"]
    assert "refused" in refused["says"]
    assert "Start PostgreSQL" in refused["do"]
    assert '"no_such_database" does not exist' in unknown["says"]
    assert "database name" in unknown["do"]
    assert "no-such-host.invalid" in nowhere["says"]
    assert "Correct the host" in nowhere["do"]
    assert "hush" not in str([refused, unknown, nowhere])


def test_a_wrong_password_and_a_frozen_postgresql_are_told_apart(cli: Cli) -> None:
    """The real server refuses the password; a port that takes connections and says nothing is a frozen one."""
    url = urlsplit(cli.environment["DATABASE_URL"])
    at = url.netloc.rpartition("@")[2]
    refused = database_finding(
        cli, DATABASE_URL=urlunsplit(url._replace(netloc=f"postgres:hush@{at}", query="sslmode=disable"))
    )
    with _server_that(lambda _connection: None) as port:
        frozen = database_finding(
            cli, DATABASE_URL=f"postgresql://me:hush@127.0.0.1:{port}/x?sslmode=disable"
        )

    assert 'password authentication failed for user "postgres"' in refused["says"]
    assert "user and password" in refused["do"]
    assert "frozen" in frozen["do"]
    assert "hush" not in str([refused, frozen])


def test_another_program_at_an_address_is_reported(cli: Cli) -> None:
    """A wrong port: a web server answers to Redis' or PostgreSQL's protocol. Seen to fail: "Start PostgreSQL"."""
    with _server_that(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        findings = examine(
            cli, REDIS_URL=f"redis://127.0.0.1:{port}/1", DATABASE_URL=f"postgresql://me@127.0.0.1:{port}/x"
        )
    does = {finding["area"]: finding["do"] for finding in findings if finding["level"] == "problem"}

    assert "Another program answers" in does["redis"]
    assert "Another program answers" in does["database"]


def test_ctrl_c_ends_it_while_servers_do_not_answer(cli: Cli, served: Served) -> None:
    """Seen to fail: it waited for the slowest server, here 25 s."""
    service = served.dataset.fake_services.customers
    service.rule(hold=True)
    try:
        with Cli({**cli.environment, "UPSTREAM_TIMEOUT": "25"}).process("doctor") as doctor:
            service.wait_for(held=1)
            assert doctor.interrupt() == 1
            assert doctor.rest().split() == ["Aborted!"]
    finally:
        service.reset()


@contextmanager
def _server_that(answers: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port that takes connections, reads what comes first, and does with them what its argument says."""
    taken: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            taken.append(connection)
            connection.recv(1024)
            answers(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()


def test_another_secret_key_than_the_workers_is_reported(cli: Cli) -> None:
    """A valid key, and not theirs: links and tokens made in this shell are worth nothing to them."""
    findings = examine(cli, SECRET_KEY="another-valid-key-0123456789-abcdefghij")

    (finding,) = [f for f in findings if "SECRET_KEY" in f["says"]]
    assert finding["level"] == "problem"
    assert finding["says"].startswith("The workers use another SECRET_KEY than this shell")
    assert SECRET not in str(findings)
