"""Commands that Redis refuses although it answers: noted by operation, logged once, ended by a success."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from servease_appt.cache import CacheUnavailable, TwoTierCache, connect, json_codec
from servease_appt.cache.refusals import CONNECT, LOG_EVERY_S, Refusals, cause_of, check_version
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey

KEY = "customer_1"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NoPermissionError("User x has no permissions to run the 'set' command"), "NOPERM"),
        (ResponseError("ACL failure in script: User x has no permissions"), "NOPERM"),
        (ResponseError("The user executing the script can't run this command or subcommand"), "NOPERM"),
        (ReadOnlyError("You can't write against a read only replica."), "READONLY"),
        (ResponseError("READONLY Can not run script with write flag on readonly replica"), "READONLY"),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "OOM"),
        (ResponseError("OOM allow-oom flag is not set on the script"), "OOM"),
        (ResponseError("MISCONF Valkey is configured to save RDB snapshots"), "MISCONF"),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
        (ResponseError("unknown command 'EVALSHA', with args beginning with: "), "UNKNOWN_COMMAND"),
        (ResponseError("unknown command 'HELLO', with args beginning with: '3' "), "NO_RESP3"),
        (ResponseError("NOPROTO unsupported protocol version"), "NO_RESP3"),
        (ResponseError("DB index is out of range"), "NO_DATABASE"),
        (
            ResponseError("Error compiling script (new function): user_script:1: unexpected symbol"),
            "OLD_VERSION",
        ),
        (AuthenticationError("invalid username-password pair or user is disabled."), "NOAUTH"),
        (ResponseError("value is not an integer or out of range"), None),
        (ConnectionError("refused"), None),
    ],
)
def test_each_cause_has_redis_own_word(error: Exception, cause: str | None) -> None:
    """A mistake in one value is no refusal."""
    assert cause_of(error) == cause


def test_a_right_is_missing_until_its_own_operation_succeeds() -> None:
    """Rights are granted for each command: another command's success says nothing of this one."""
    refusals = Refusals()
    refusals.refused("invalidate", NoPermissionError("no PUBLISH"))
    refusals.accepted("fill")
    assert refusals.current is not None
    assert refusals.current.cause == "NOPERM"
    refusals.accepted("invalidate")
    assert refusals.current is None


def test_any_write_ends_what_concerns_all_writes() -> None:
    """A full server takes no write; a read's success does not show that it is not full any more."""
    refusals = Refusals()
    refusals.refused("fill", OutOfMemoryError("full"))
    refusals.accepted("read")
    assert refusals.current is not None
    refusals.accepted("acquire")
    assert refusals.current is None


@pytest.mark.parametrize(
    ("server", "version", "is_old"),
    [
        ("redis", "6.2.14", True),
        ("redis", "7.0.0", False),
        ("redis", "10.1", False),
        ("valkey", "9.1.2", False),
        ("", "", False),
        ("redis", "unknown", False),
    ],
)
def test_the_version_is_compared_with_the_least_one(server: str, version: str, is_old: bool) -> None:
    """A version that is not known is not objected to: the scripts show what it can do."""
    assert (check_version(server, version) is not None) is is_old


def test_a_command_that_is_not_known_is_missing_until_it_is_accepted() -> None:
    """The success of another write does not show that scripts run."""
    refusals = Refusals()
    refusals.refused("EVAL", ResponseError("unknown command 'EVAL', with args beginning with: "))
    refusals.accepted("HSET")
    assert refusals.current is not None
    refusals.accepted("EVAL")
    assert refusals.current is None


def test_any_success_ends_what_concerns_connections() -> None:
    """Every operation met the refusal, and each need not succeed again. An unknown reason has a cause, too."""
    refusals = Refusals()
    refusals.refused("fill", ResponseError("unknown command 'HELLO', with args beginning with: '3' "))
    refusals.refused(CONNECT, ResponseError("some proxy does not like this"))
    assert {refusal.cause for refusal in refusals._refused.values()} == {"NO_RESP3", "UNUSABLE"}
    refusals.accepted("read")
    assert refusals.current is None


def test_each_cause_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """With Redis' own sentence."""
    now_s = 0.0
    refusals = Refusals(lambda: now_s)
    for _ in range(50):
        refusals.refused("fill", ReadOnlyError("You can't write against a read only replica."))
        refusals.refused("invalidate", ReadOnlyError("You can't write against a read only replica."))
    refusals.refused("fill", NoPermissionError("no right to SET"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "READONLY): You can't write against a read only replica" in caplog.text
    now_s = LOG_EVERY_S
    refusals.refused("fill", NoPermissionError("no right to SET"))
    assert len(caplog.records) == 3


@pytest.fixture
def limited(own_valkey: EmbeddedValkey) -> str:
    """The URL of a user that may read and listen, and write nothing."""
    rights = "+@read +@connection +@pubsub -publish +info +evalsha +script|load"
    with Redis.from_url(own_valkey.url(1)) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", *rights.split())
    return own_valkey.url(1).replace("redis://", "redis://reader:secret@")


def test_a_worker_without_the_right_to_write_says_so_before_any_read(
    limited: str, own_valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    """Its registration is refused; values are served all the same, and the right ends it."""
    cache: TwoTierCache[Mapping[str, Any]] = TwoTierCache(
        connect(limited), (json_codec("customer"),), prefix="appointment_service", owns_client=True
    )
    try:
        cache.start()
        assert wait_until(lambda: cache.l2.refusals.current is not None, timeout_s=20)
        assert cache.describe()["redis_refuses"].startswith("NOPERM: ")
        assert cache.get(KEY, lambda _key, _timeout_s: {"n": 1}) == {"n": 1}
        with pytest.raises(CacheUnavailable):
            cache.invalidate([KEY])
        assert caplog.text.count("Redis answers, and refuses") == 1
        with Redis.from_url(own_valkey.url(1)) as admin:
            admin.execute_command("ACL", "SETUSER", "reader", "+@all")
        cache.invalidate([KEY])
        assert cache.get(KEY, lambda _key, _timeout_s: {"n": 2}) == {"n": 2}
        cache._process._register()  # as it does by itself every few seconds
        assert wait_until(lambda: cache.l2.refusals.current is None, timeout_s=20)
    finally:
        cache.close()


@pytest.mark.parametrize(
    ("rights", "operation"), [("resetchannels", "subscribe"), ("&* -client|tracking", "client tracking")]
)
def test_a_listener_without_rights_is_one_log_line(
    rights: str, operation: str, own_valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail: three lines a second for ever, and the wrong cause."""
    with Redis.from_url(own_valkey.url()) as admin:
        admin.execute_command("ACL", "SETUSER", "limited", "on", ">p", "~*", "+@all", *rights.split())
    cache = TwoTierCache.from_url(
        f"redis://limited:p@127.0.0.1:{own_valkey.port}/1", (json_codec("customer"),), prefix="test"
    )
    cache.start()
    try:
        listener = cache._process.listener
        assert wait_until(lambda: cache.l2.refusals.current is not None, timeout_s=10)
        first_s = listener.last_answer_at_s
        assert wait_until(lambda: listener.last_answer_at_s > first_s + 1.0, timeout_s=10)
        refusal = cache.l2.refusals.current
        assert refusal is not None
        assert refusal.cause == "NOPERM"
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(lines) == 1
        assert f"refuses {operation} (NOPERM)" in lines[0]
    finally:
        cache.close()
