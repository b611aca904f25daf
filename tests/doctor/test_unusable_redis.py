"""A Redis that answers and that the cache can't use is named: by readiness, in one log line, and by the doctor."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from redis import Redis

from servease_appt.cache import CacheError
from servease_appt.container import EXTENSION
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.cli import Cli
from tests.support.dataset import Asker
from tests.support.old_server import COMPATIBLE, old_server
from tests.support.served import settings

OPTIONS = {
    "resp3": ("--rename-command", "HELLO", ""),
    "database": ("--databases", "1"),
    "lua": ("--rename-command", "EVAL", ""),
    "version": COMPATIBLE,
    "no password": ("--requirepass", "right"),
    "wrong password": ("--requirepass", "right"),
}
RIGHTS = {"no scripts": ("+@all", "-eval"), "no writes": ("+@all", "-@write")}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends what a test has started."""
    with ExitStack() as stack:
        yield stack


def url_of(case: str, stack: ExitStack) -> str:
    """Start the server of a case."""
    server = stack.enter_context(EmbeddedValkey(options=OPTIONS.get(case, ())))
    if case == "version":
        return stack.enter_context(old_server(server))
    user = ":wrong@" if case == "wrong password" else ""
    if case in RIGHTS:
        user = "limited:p@"
        with Redis.from_url(server.url()) as admin:
            admin.execute_command("ACL", "SETUSER", "limited", "on", ">p", "~*", "&*", *RIGHTS[case])
    return server.url(1).replace("redis://", f"redis://{user}")


@pytest.mark.parametrize(
    ("case", "cause", "remedy"),
    [
        ("resp3", "NO_RESP3", "RESP2 is not supported"),
        ("database", "NO_DATABASE", "such as /0"),
        ("lua", "UNKNOWN_COMMAND", "Lua"),
        ("version", "OLD_VERSION", "Redis 7.0 or later"),
        ("no password", "NOAUTH", "user name and password"),
        ("wrong password", "NOAUTH", "user name and password"),
        ("no scripts", "NOPERM", "deploy/users.acl"),
        ("no writes", "NOPERM", "Give the user in REDIS_URL the commands and keys"),
    ],
)
def test_it_is_named_before_and_after_the_first_reads(
    *,
    case: str,
    cause: str,
    remedy: str,
    stack: ExitStack,
    migrated_postgres_url: str,
    running_fake_services: FakeServices,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Seen to fail: readiness was `ok` or without a cause, and nothing was logged."""
    url = url_of(case, stack)
    cli = stack.enter_context(Cli(settings(migrated_postgres_url, url, running_fake_services)))
    cache = cli.app.extensions[EXTENSION].lookups.cache
    cache.start()
    assert wait_until(lambda: cache.l2.refusals.current is not None, timeout_s=20)
    for reads in (0, 5):
        for _ in range(reads):
            with suppress(CacheError):
                cache.l2.read(["customer_1"])
        ready = Asker(cli.app, None).get("/health/ready/")
        assert (ready.status_code, ready.get_json()["status"]) == (200, "degraded")
        checks = ready.get_json()["checks"]
        assert (checks["redis"], checks["redis_cause"]) == ("refuses", cause)

    shown = json.loads(cli.app.test_cli_runner().invoke(args=["cache", "doctor", "--json"]).stdout)
    wrong = [f for f in shown["findings"] if f["area"] == "redis" and f["level"] == "problem"]
    assert any(remedy in finding["do"] for finding in wrong), wrong
    assert not any("Start Redis" in finding["do"] for finding in wrong)
    refusals = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and "refuses" in r.msg]
    assert len([line for line in refusals if cause in line]) == 1, refusals


def test_info_refused_hides_no_other_check(
    own_valkey: EmbeddedValkey, migrated_postgres_url: str, running_fake_services: FakeServices
) -> None:
    """Redis runs: what is missing is a right. Seen to fail: the other checks were left out."""
    with Redis.from_url(own_valkey.url()) as admin:
        admin.execute_command("ACL", "SETUSER", "limited", "on", ">p", "~*", "&*", "+@all", "-info")
    url = own_valkey.url(1).replace("redis://", "redis://limited:p@")
    with Cli(settings(migrated_postgres_url, url, running_fake_services)) as cli:
        findings = [f for f in cli.json("doctor", exit_code=1)["findings"] if f["area"] == "redis"]
    (refused,) = [finding for finding in findings if finding["level"] != "ok"]
    assert refused["says"].startswith("INFO is refused: ")
    assert "deploy/users.acl" in refused["do"]
    assert "Start Redis" not in refused["do"]
    assert any(finding["says"].startswith("Its clock is ") for finding in findings)
    assert any(finding["says"].startswith("Database 1") for finding in findings)
