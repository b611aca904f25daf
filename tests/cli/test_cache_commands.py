"""The cache's commands, against two workers and the servers behind them."""

import time
import uuid
from typing import Any

import pytest
import redis

from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedValkey, free_port
from tests.support.cli import Cli
from tests.support.dataset import Dataset
from tests.support.served import Served

PREFIX = "appointment_service"


@pytest.fixture
def dataset(served: Served, client: redis.Redis) -> Dataset:
    """Empty tables, an empty cache, people of this test's own, and one appointment of Alice's."""
    client.flushdb()
    dataset = Dataset(served.dataset.app, served.dataset.fake_services)
    dataset.clear()
    dataset.appointment(assigned_employee_id=dataset.erin_id)
    return dataset


@pytest.fixture
def read(served: Served, dataset: Dataset) -> Dataset:
    """The dataset after both workers have read its appointment."""

    def both_hold_it() -> bool:
        assert served.get("/api/v1/appointments/").status == 200
        reads = [status["l1_entries"] for status in _cli_statuses(served)]
        return len(reads) == 2 and all(n >= 3 for n in reads)

    assert wait_until(both_hold_it, timeout_s=10)
    return dataset


def _cli_statuses(served: Served) -> list[dict[str, Any]]:
    cache = served.dataset.container.lookups.cache
    return cache.worker_queries.query("status")


def test_keys_lists_what_is_there_with_its_lifetime(cli: Cli, read: Dataset) -> None:
    """Every value, by pattern, by entity or by key with the prefix; the cache's own keys are left out."""
    everything = cli.json("keys")

    assert {entry["key"] for entry in everything} == {
        f"customer_{read.alice_id}",
        f"vehicle_{read.alices_car}",
        f"employee_{read.erin_id}",
    }
    assert all(0 < entry["ttl_s"] <= 300 for entry in everything)
    assert [entry["key"] for entry in cli.json("keys", "vehicle")] == [f"vehicle_{read.alices_car}"]
    assert len(cli.json("keys", f"{PREFIX}:customer_*")) == 1
    assert cli.json("keys", "customer_nobody*") == []

    table = cli.run("keys").stdout

    assert f"customer_{read.alice_id}" in table
    assert "3 keys (1 customer, 1 employee, 1 vehicle)." in table


def test_keys_stops_at_its_limit_and_says_so(cli: Cli, dataset: Dataset, client: redis.Redis) -> None:
    """A large cache does not scroll away what was on the screen, unless asked to."""
    for number in range(30):
        client.set(f"{PREFIX}:customer_{number:02}", "{}", ex=100)

    assert "20 keys (20 customer), and more: --limit 0 lists all." in cli.run("keys", "--limit", "20").stdout
    assert len(cli.json("keys", "--limit", "0")) == 30


def test_get_prints_the_value_as_it_lies_in_redis(cli: Cli, read: Dataset, client: redis.Redis) -> None:
    """What `redis-cli GET` shows, for any way to name it; with --json its lifetime, too."""
    key = f"customer_{read.alice_id}"
    stored = client.get(f"{PREFIX}:{key}")
    assert isinstance(stored, bytes)

    for words in (("customer", read.alice_id.upper()), (key,), (f"{PREFIX}:{key}",)):
        assert cli.run("get", *words).stdout == f"{stored.decode()}\n"
    (record,) = cli.json("get", key)
    assert record["value"] == stored.decode()
    assert 0 < record["ttl_s"] <= 300


def test_get_says_why_something_is_not_there(cli: Cli, dataset: Dataset, client: redis.Redis) -> None:
    """Not cached, known not to exist, and expired with a copy left are three things. Exit code 1."""
    key = f"customer_{dataset.alice_id}"

    assert f"{key} is not in Redis." in cli.run("get", key, exit_code=1).stderr

    client.set(f"{PREFIX}:__copy:{{{PREFIX}:{key}}}", "{}", ex=50)

    assert "A stale copy exists for 50 s more" in cli.run("get", key, exit_code=1).stderr

    client.set(f"{PREFIX}:__absent:{{{PREFIX}:{key}}}", "1", ex=50)

    assert "its service answered 404" in cli.run("get", key, exit_code=1).stderr
    assert cli.json("get", key, exit_code=1)[0]["known_absent_for_s"] > 40


def test_what_lies_in_redis_cannot_steer_the_terminal(
    cli: Cli, dataset: Dataset, client: redis.Redis
) -> None:
    """Escape sequences of somebody's making are shown, not carried out."""
    client.set(f"{PREFIX}:customer_{dataset.alice_id}", "\x1b[2Jgone", ex=50)
    client.set(f"{PREFIX}:customer_\x1b]0;x\x07", "{}", ex=50)

    assert cli.run("get", "customer", dataset.alice_id).stdout == "\\x1b[2Jgone\n"
    assert "\x1b" not in cli.run("keys").stdout


def test_a_key_that_is_no_string_is_shown_as_such(cli: Cli, dataset: Dataset, client: redis.Redis) -> None:
    """Somebody's list under our name is no reason to break off."""
    client.rpush(f"{PREFIX}:customer_{dataset.alice_id}", "x")

    assert "(not a string)" in cli.run("get", "customer", dataset.alice_id).stdout
    assert "(not a string)" in cli.run("explain", "customer", dataset.alice_id).stdout


def test_ttl_and_exists_answer_in_words_and_in_the_exit_code(cli: Cli, read: Dataset) -> None:
    """0 when all are there, 1 when one is not, for scripts."""
    there, gone = f"customer_{read.alice_id}", f"customer_{uuid.uuid4()}"

    assert " s " in cli.run("ttl", there).stdout
    (record,) = cli.json("ttl", there)
    assert record["last_known_copy_for_s"] > record["ttl_s"] > 0
    cli.run("ttl", there, gone, exit_code=1)
    assert "yes" in cli.run("exists", there).stdout
    assert "no" in cli.run("exists", there, gone, exit_code=1).stdout
    assert [e["exists"] for e in cli.json("exists", there, gone, exit_code=1)] == [True, False]


def test_invalidate_reports_the_workers_that_have_handled_it(
    cli: Cli, read: Dataset, served: Served, client: redis.Redis
) -> None:
    """Out of Redis, out of both L1s, and each worker's answer is the proof."""
    done = cli.json("invalidate", "customer", read.alice_id, f"vehicle_{read.alices_car}")

    assert done["invalidated"] == 2
    assert len(done["handled_by"]) == 2
    assert all(answer["after_ms"] < 1000 for answer in done["handled_by"])
    assert done["silent"] == []
    assert client.exists(f"{PREFIX}:customer_{read.alice_id}") == 0
    (report,) = cli.json("explain", "customer", read.alice_id)
    assert [worker["l1"] for worker in report["workers"]] == [None, None]

    read.fake_services.customers.put({"id": read.alice_id, "full_name": "Alice New", "email": ""})
    text = cli.run("invalidate", "customer", read.alice_id).stdout

    assert text.startswith("1 invalidated.\n")
    assert text.count(" ms") == 2
    names = {served.get("/api/v1/appointments/").json["results"][0]["customer_name"] for _ in range(6)}
    assert names == {"Alice New"}


def test_invalidate_names_a_registered_worker_that_is_silent(
    cli: Cli, dataset: Dataset, client: redis.Redis
) -> None:
    """Nobody should take a report without a worker for one that names all of them."""
    client.hset(f"{PREFIX}:__workers", "elsewhere:1:aa", '{"pid": 1, "host": "elsewhere"}')

    assert "No answer from elsewhere:1" in cli.run("invalidate", "customer", dataset.alice_id).stdout


def test_invalidate_from_another_database_says_that_no_worker_answered(
    cli: Cli, dataset: Dataset, valkey: EmbeddedValkey
) -> None:
    """Messages know no databases, keys do: the workers hear it, and what they hold in Redis stays."""
    with Cli({**cli.environment, "REDIS_URL": valkey.url(0)}) as elsewhere:
        text = elsewhere.run("invalidate", "customer", dataset.alice_id).stdout

    assert "2 workers on this server did not answer. Do they use another database" in text


def test_clear_drops_one_entity_or_all_and_says_what(cli: Cli, read: Dataset, client: redis.Redis) -> None:
    """Values, last known copies and L1s of one entity; the others stay until all are cleared."""
    done = cli.json("clear", "--entity", "vehicle", "--yes")

    assert done["cleared"] == {"vehicle": 1}
    assert len(done["handled_by"]) == 2
    assert not list(client.scan_iter("*vehicle*"))
    assert len(cli.json("keys")) == 2
    client.set("another_service:customer_1", "theirs")

    assert "Cleared 1 customer, 0 vehicles, 1 employee." in cli.run("clear", "--yes").stdout
    assert cli.json("keys") == []
    assert client.get("another_service:customer_1") == b"theirs"
    (report,) = cli.json("explain", "customer", read.alice_id)
    assert [worker["l1"] for worker in report["workers"]] == [None, None]


def test_clear_refuses_where_it_can_not_ask(cli: Cli, read: Dataset) -> None:
    """A script without --yes clears nothing: exit code 2."""
    refused = cli.run("clear", exit_code=2)

    assert "add --yes" in refused.stderr
    assert len(cli.json("keys")) == 3


def test_l1_is_switched_off_and_on(cli: Cli, read: Dataset, served: Served) -> None:
    """Both workers confirm it; `stats`, /health/ready/ and the doctor show it; `on` ends all that."""
    done = cli.json("l1", "off")
    try:
        assert len(done["followed"]) == 2
        assert done["not_confirmed"] == []
        assert cli.run("stats").stdout.count("l2_only (L1 off)") == 2
        assert served.get("/api/v1/health/ready/").json["checks"]["cache_mode"] == "l2_only"
        assert served.get("/api/v1/appointments/").headers["X-Cache"].startswith("l1=0 l2=3 ")
        found = [each for each in cli.json("doctor", exit_code=1)["findings"] if each["level"] == "warning"]
        assert [each["do"].partition(": ")[2] for each in found] == ["flask --app wsgi cache l1 on"]
    finally:
        text = cli.run("l1", "on").stdout

    assert text.startswith("L1 is switched on.\n")
    assert text.count(" ms\n") == 2
    assert {worker["mode"] for worker in cli.json("stats")["workers"]} == {"both"}
    assert "unlike the switch" not in cli.run("doctor").stdout


def test_stats_adds_up_all_workers_and_shows_each(cli: Cli, read: Dataset, served: Served) -> None:
    """Three references a request, whoever answered it, and the state of both workers."""
    before = cli.json("stats")
    for _ in range(8):
        served.get("/api/v1/appointments/")

    report = cli.json("stats")

    assert report["reads"]["asked"] - before["reads"]["asked"] == 24
    assert report["reads"]["hit_rate"] > 0
    l1 = report["tiers"]["l1"]["customer"]["hit"] - before["tiers"]["l1"]["customer"]["hit"]
    l2 = report["tiers"]["l2"]["customer"]["hit"] - before["tiers"]["l2"]["customer"]["hit"]
    assert l1 + l2 == 8
    assert len(report["workers"]) == 2
    assert {worker["mode"] for worker in report["workers"]} == {"both"}
    assert all(
        worker["breakers"] == dict.fromkeys(worker["breakers"], "closed") for worker in report["workers"]
    )
    assert report["endpoints"]
    assert report["redis"]["keys"] >= 3

    text = cli.run("stats").stdout

    assert "hit rate" in text
    assert "HIT RATE" in text
    assert text.count(" confirmed ") == 2
    coloured = cli.app.test_cli_runner().invoke(args=["cache", "stats"], color=True).stdout
    assert coloured.count("\x1b[32mboth") == 2


def test_explain_tells_what_every_tier_holds_and_what_comes_next(
    cli: Cli, read: Dataset, client: redis.Redis
) -> None:
    """Value, lifetimes, each L1 with its age, where it came from, and the next read in words."""
    (report,) = cli.json("explain", "customer", read.alice_id)

    assert report["redis"]["readable"]
    assert report["redis"]["copy_s"] > report["redis"]["value_s"] > 0
    assert [worker["same_as_redis"] for worker in report["workers"]] == [True, True]
    assert all(worker["l1"]["trusted"] for worker in report["workers"])
    assert all("is answered from L1" in worker["next_read"] for worker in report["workers"])
    assert "fill" in {event["event"] for event in report["events"]}

    text = cli.run("explain", "customer", read.alice_id).stdout

    assert "Alice Ant" in text
    assert "Next read" in text
    cli.run("invalidate", "customer", read.alice_id)
    text = cli.run("explain", "customer", read.alice_id).stdout
    assert "calls the customer service" in text
    assert "it shows 'Unknown'" in text
    assert "invalidation" in text


def test_keys_and_monitor_are_never_sent_to_redis(cli: Cli, read: Dataset, client: redis.Redis) -> None:
    """KEYS holds up every client of a large server: none of the commands uses it."""
    client.config_resetstat()

    for words in (
        ("keys",), ("get", "customer", read.alice_id), ("ttl", "customer", read.alice_id),
        ("exists", "customer", read.alice_id), ("explain", "customer", read.alice_id), ("stats",), ("warm",),
        ("doctor",), ("invalidate", "customer", read.alice_id), ("clear", "--yes"),
    ):  # fmt: skip
        cli.run(*words)

    sent = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert "scan" in sent
    assert sent.isdisjoint({"keys", "monitor", "flushdb", "flushall"})


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("get", "custmer", str(uuid.uuid4())), "'custmer' is not an entity (customer, vehicle, employee)"),
        (("get", "customer", "42"), "'42' is not an entity"),
        (("get", "customer_42"), "'42' in 'customer_42' is not a UUID"),
        (("get", "customer"), "Put at least one UUID after 'customer'"),
        (("invalidate", str(uuid.uuid4())), "Put the entity before"),
        (("invalidate", "customer", "vehicle", str(uuid.uuid4())), "Put at least one UUID after 'customer'"),
        (("invalidate",), "Missing argument"),
        (("clear", "--entity", "dog", "--yes"), "'customer', 'vehicle', 'employee'"),
        (("warm", "--limit", "0"), "--limit"),
        (("stats", "--interval", "0"), "--interval"),
        (("l1", "of"), "'off', 'on'"),
        (("frobnicate",), "No such command"),
    ],
)
def test_wrong_usage_names_what_is_wrong_and_allowed(cli: Cli, words: tuple[str, ...], named: str) -> None:
    """Exit code 2, and nothing is done."""
    assert named in cli.run(*words, exit_code=2).stderr


def test_every_command_has_help_with_an_example(cli: Cli) -> None:
    """`--help` is the handbook at night."""
    listing = cli.run("--help").stdout
    assert "..." not in listing.partition("Commands:")[2]  # none is cut

    for name in (
        "keys",
        "get",
        "ttl",
        "exists",
        "invalidate",
        "clear",
        "stats",
        "monitor",
        "warm",
        "doctor",
        "explain",
        "l1",
    ):
        assert f"  {name} " in listing
        assert f"flask --app wsgi cache {name}" in cli.run(name, "--help").stdout


def test_help_is_short_to_type(cli: Cli) -> None:
    """`-h` as in most tools, for the group and for each command."""
    assert cli.run("-h").stdout == cli.run("--help").stdout
    assert cli.run("explain", "-h").stdout == cli.run("explain", "--help").stdout


@pytest.mark.parametrize(("words", "no_color"), [((), ""), (("--no-color",), ""), ((), "1")])
def test_colours_can_be_turned_off(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], no_color: str
) -> None:
    """By option or by the variable that every tool knows; a terminal has them otherwise."""
    monkeypatch.setenv("NO_COLOR", no_color)
    runner = cli.app.test_cli_runner()

    shown = runner.invoke(args=["cache", *words, "doctor"], color=True).stdout

    assert ("\x1b[" in shown) == (words == () and not no_color)


def test_nothing_found_says_what_may_be_meant(cli: Cli, dataset: Dataset) -> None:
    """A plural or a typing error is a hint, on standard error; so is an empty cache."""
    assert "Did you mean customer?" in cli.run("keys", "customers").stderr
    assert "Did you mean employee?" in cli.run("keys", "emploee_*").stderr
    assert "Nothing is cached under appointment_service: in this database." in cli.run("keys").stderr
    assert "Did you mean vehicle?" in cli.run("get", "vehicles", str(uuid.uuid4()), exit_code=2).stderr
    for command in ("clear", "warm", "monitor"):
        assert "Did you mean vehicle?" in cli.run(command, "--entity", "vehicles", exit_code=2).stderr
    assert "No lookups yet." in _without_lookups(cli)


def _without_lookups(cli: Cli) -> str:
    """The statistics of a prefix that no worker uses."""
    with Cli({**cli.environment, "CACHE_KEY_PREFIX": "unused"}) as other:
        return other.run("stats").stdout


COMMANDS = (
    ("keys",),
    ("get", "customer", str(uuid.uuid4())),
    ("ttl", "customer", str(uuid.uuid4())),
    ("exists", "customer", str(uuid.uuid4())),
    ("invalidate", "customer", str(uuid.uuid4())),
    ("clear", "--yes"),
    ("stats",),
    ("explain", "customer", str(uuid.uuid4())),
    ("monitor",),
    ("warm",),
    ("l1", "off"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_without_redis_every_command_says_so_in_one_line(cli: Cli, words: tuple[str, ...]) -> None:
    """Exit code 1, at once, naming the address, without its password and without a trace."""
    address = f"127.0.0.1:{free_port()}"
    with Cli({**cli.environment, "REDIS_URL": f"redis://:a-password@{address}/1"}) as without:
        started_s = time.monotonic()
        failed = without.run(*words, exit_code=1)

    assert time.monotonic() - started_s < 1.5
    assert failed.stdout == ""
    (line,) = failed.stderr.splitlines()
    assert line.startswith(f"Error: Redis at redis://:***@{address}/1: ")
    assert "a-password" not in line


@pytest.mark.parametrize("words", [COMMANDS[0], COMMANDS[4], COMMANDS[7]], ids=lambda words: words[0])
def test_a_redis_that_hangs_costs_a_second(
    cli: Cli, own_valkey: EmbeddedValkey, words: tuple[str, ...]
) -> None:
    """Connections are taken and nothing is answered: no command waits for ever."""
    own_valkey.pause()
    with Cli({**cli.environment, "REDIS_URL": own_valkey.url(1)}) as hanging:
        started_s = time.monotonic()
        failed = hanging.run(*words, exit_code=1)

    assert time.monotonic() - started_s < 2.5
    assert "Timeout" in failed.stderr


def test_a_replica_refuses_an_invalidation_and_the_command_says_so(
    cli: Cli, own_valkey: EmbeddedValkey
) -> None:
    """Exit code 1: a script must not believe that the value is gone."""
    with redis.Redis.from_url(own_valkey.url()) as client:
        client.replicaof("127.0.0.1", free_port())
    with Cli({**cli.environment, "REDIS_URL": own_valkey.url(1)}) as read_only:
        refused = read_only.run("invalidate", "customer", str(uuid.uuid4()), exit_code=1)

    assert "read only" in refused.stderr
