"""The doctor names the true cause of what Redis fails with, and what helps against that cause."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey
from tests.support.cli import Cli
from tests.support.forged_answers import forged_answers
from tests.support.worker_process import worker_process

PREFIX = "appointment_service"
NOBODY = "7f3f6d5e-0f5f-4f6e-9f59-6a2f0c1d2e3f"


def findings_of(cli: Cli, exit_code: int = 1, **settings: str) -> list[dict[str, Any]]:
    """Run the doctor with some settings changed."""
    with Cli({**cli.environment, **settings}) as other:
        found: list[dict[str, Any]] = other.json("doctor", exit_code=exit_code)["findings"]
    return found


def problems(findings: list[dict[str, Any]], area: str) -> list[dict[str, Any]]:
    """The warnings and problems of one area, in order."""
    return [f for f in findings if f["area"] == area and f["level"] in ("warning", "problem")]


def test_a_full_redis_is_the_finding_and_its_workers_are_well(cli: Cli, own_valkey: EmbeddedValkey) -> None:
    """A full server stores nothing, and still delivers messages: no worker is called blocked."""
    environment = {**cli.environment, "REDIS_URL": own_valkey.url(1)}
    with redis.Redis.from_url(own_valkey.url(1)) as client, worker_process(environment):
        assert wait_until(lambda: client.hlen(f"{PREFIX}:__workers") == 1, timeout_s=10)
        client.config_set("maxmemory", "1mb")
        try:
            with pytest.raises(redis.ResponseError):
                client.set("filler", "x")
            findings = findings_of(cli, REDIS_URL=own_valkey.url(1))
        finally:
            client.config_set("maxmemory", "0")

    first = problems(findings, "redis")[0]
    assert first["says"] == "It is full (maxmemory) and refuses writes."
    assert "maxmemory" in first["do"]
    assert [f for f in problems(findings, "workers") if f["level"] == "problem"] == []
    assert any(f["says"] == "1 listening, 1 registered, 1 answered." for f in findings)


def test_a_register_that_was_evicted_is_reported(cli: Cli, own_valkey: EmbeddedValkey) -> None:
    """allkeys-lru may evict the register: a worker that listens and is not on it is a finding."""
    environment = {**cli.environment, "REDIS_URL": own_valkey.url(1)}
    with redis.Redis.from_url(own_valkey.url(1)) as client, worker_process(environment):
        assert wait_until(lambda: client.hlen(f"{PREFIX}:__workers") == 1, timeout_s=10)
        client.delete(f"{PREFIX}:__workers")
        (finding,) = problems(findings_of(cli, REDIS_URL=own_valkey.url(1)), "workers")

    assert finding["says"] == "1 listening, 0 registered, 1 answered."
    assert "volatile-lru" in finding["do"]


@pytest.mark.parametrize("given", [":wrong@", "wrong:user@", ""])
def test_a_wrong_password_does_not_ask_to_start_redis(
    cli: Cli, own_valkey: EmbeddedValkey, given: str
) -> None:
    """Redis runs: the cure is the password."""
    with redis.Redis.from_url(own_valkey.url(1)) as client:
        client.config_set("requirepass", "the-right-one")
    url = own_valkey.url(1).replace("redis://", f"redis://{given}")
    (finding,) = problems(findings_of(cli, REDIS_URL=url), "redis")

    assert "password" in finding["do"]
    assert "Start Redis" not in finding["do"]
    assert "wrong@" not in json.dumps(finding)


def test_a_frozen_redis_is_told_from_one_that_is_not_there(cli: Cli, own_valkey: EmbeddedValkey) -> None:
    """Its port takes connections: what to look for is what keeps it from answering."""
    own_valkey.pause()
    try:
        (finding,) = problems(findings_of(cli, REDIS_URL=own_valkey.url(1)), "redis")
    finally:
        own_valkey.resume()

    assert "frozen" in finding["do"]


def test_a_replica_is_the_cause_and_its_workers_are_not_blamed(cli: Cli, own_valkey: EmbeddedValkey) -> None:
    """Workers leave a server that refuses their heartbeat. Seen to fail: "restart it: kill PID"."""
    environment = {**cli.environment, "REDIS_URL": own_valkey.url(1)}
    with redis.Redis.from_url(own_valkey.url(1)) as client, worker_process(environment):
        assert wait_until(lambda: client.hlen(f"{PREFIX}:__workers") == 1, timeout_s=10)
        client.replicaof("127.0.0.1", 1)
        asked = f"{PREFIX}:__ask"
        assert wait_until(lambda: client.pubsub_numsub(asked)[0][1] == 0, timeout_s=10, interval_s=0.01)
        findings = findings_of(cli, REDIS_URL=own_valkey.url(1))
        client.replicaof("NO", "ONE")

    assert problems(findings, "redis")[0]["says"] == "It is a replica."
    assert "kill" not in json.dumps(problems(findings, "workers"))
    assert all("Redis" in finding["do"] for finding in problems(findings, "workers"))


def test_a_redis_that_can_not_save_is_reported(cli: Cli, tmp_path: Path) -> None:
    """It then refuses even PING. Seen to fail: "Check that Redis runs there"."""
    folder = tmp_path / "deleted"
    folder.mkdir()
    options = ("--save", "3600 1", "--enable-protected-configs", "yes")
    with EmbeddedValkey(options=options) as server, redis.Redis.from_url(server.url(1)) as client:
        client.config_set("dir", str(folder))
        folder.rmdir()
        client.set("filler", "x")
        client.bgsave()
        assert wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", timeout_s=10)
        (finding,) = problems(findings_of(cli, REDIS_URL=server.url(1)), "redis")

    assert finding["says"].endswith("answers. It cannot save its data to disk and therefore refuses writes.")
    assert "Free disk space" in finding["do"]


def test_a_clock_is_off_in_hours_and_not_in_milliseconds(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,800,000 ms says nothing to anybody."""
    monkeypatch.setattr("servease_appt.doctor.redis_checks.time.time", lambda: _real_time() - 3 * 3600)
    findings = problems(findings_of(cli), "redis")

    assert "Its clock is 3.0 h ahead of this host's." in [finding["says"] for finding in findings]


_real_time = time.time


def test_other_answers_and_registrations_are_left_out(cli: Cli, own_valkey: EmbeddedValkey) -> None:
    """Whatever lies under our keys is data of anybody: commands skip it, the doctor counts it."""
    url = own_valkey.url(1)
    environment = {**cli.environment, "REDIS_URL": url}
    with redis.Redis.from_url(url) as client, worker_process(environment) as pid:
        assert wait_until(lambda: client.hlen(f"{PREFIX}:__workers") == 1, timeout_s=10)
        for identity, about in (
            (b"\xff\xfe", b"{}"),
            (b"\x1b[2J:1:aa", b"{}"),
            (b"elsewhere:1:aa", b"not json"),
            (b"elsewhere:2:bb", b"[1]"),
            (b"elsewhere:3:cc", b'{"pid": "x", "host": 7}'),
        ):
            client.hset(f"{PREFIX}:__workers", identity, about)
        client.set(f"{PREFIX}:__seq", "no number")
        with Cli(environment) as other, forged_answers(client):
            stats = other.json("stats")
            shown = other.run("stats").stdout
            explained = other.json("explain", "customer", "bcee5755-2c9f-4c0a-8720-1592b75edf96")
            other.run("invalidate", "customer", "bcee5755-2c9f-4c0a-8720-1592b75edf96")
            findings = other.json("doctor", exit_code=1)["findings"]

    assert [worker["pid"] for worker in stats["workers"]] == [pid]
    assert stats["silent_workers"] == ["elsewhere:1:aa", "elsewhere:2:bb", "elsewhere:3:cc"]
    assert stats["unreadable_answers"] > 0
    assert "\x1b" not in shown
    assert [worker["pid"] for worker in explained[0]["workers"]] == [pid]
    assert any("could not be read" in finding["says"] for finding in findings)
    assert not any("failed:" in finding["says"] for finding in findings)


def test_a_worker_whose_writes_are_refused_is_reported(cli: Cli, own_valkey: EmbeddedValkey) -> None:
    """Redis answers and refuses: the doctor names the worker and the file with the rights that it needs."""
    admin_url = own_valkey.url(1)
    with redis.Redis.from_url(admin_url) as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@all", "-hset")
        url = admin_url.replace("redis://", "redis://reader:pw@")
        with worker_process({**cli.environment, "REDIS_URL": url}):
            queries = cli.app.extensions["servease"].lookups.cache.keys.queries
            assert wait_until(lambda: client.pubsub_numsub(queries)[0][1] == 1, timeout_s=20)
            found = problems(findings_of(cli, REDIS_URL=admin_url), "workers")

    (refused,) = [finding for finding in found if "Redis refuses" in finding["says"]]
    assert "NOPERM" in refused["says"]
    assert "deploy/users.acl" in refused["do"]


@pytest.mark.parametrize(
    "words",
    [
        ("keys",),
        ("get", "customer", NOBODY),
        ("ttl", "customer", NOBODY),
        ("invalidate", "customer", NOBODY),
        ("clear", "--yes"),
        ("explain", "customer", NOBODY),
        ("monitor",),
        ("doctor",),
    ],
    ids=lambda words: words[0],
)
def test_a_cluster_that_does_not_answer_is_one_line(cli: Cli, words: tuple[str, ...]) -> None:
    """Exit code 1 and the cause, as for a single server. Seen to fail: a traceback in 6 of 8 commands."""
    with Cli({**cli.environment, "REDIS_URL": "redis+cluster://127.0.0.1:1"}) as other:
        result = other.run(*words, exit_code=1)
    assert "127.0.0.1:1" in result.output
    assert "Traceback" not in result.output
