"""The environment becomes one frozen object, or a list that names every mistake."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from servease_appt.app import create_app
from servease_appt.environment import SAMPLE_SECRET_KEYS
from servease_appt.masking import mask_url
from servease_appt.settings import Settings, SettingsError

ROOT = Path(__file__).parents[1]
SECRET = "k3" * 16
NEEDED = {"SECRET_KEY": SECRET, "DATABASE_URL": "postgresql://u:pw@db/appointments"}


def problems(**given: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_mapping({**NEEDED, **given})
    return caught.value.problems


def test_defaults_are_those_of_the_table() -> None:
    """With nothing but what has no default, every other setting has the documented one."""
    settings = Settings.from_mapping(NEEDED)

    assert settings == Settings(
        secret_key=SECRET,
        redis_url="redis://redis:6379/1",
        database_url="postgresql+psycopg2://u:pw@db/appointments",
        customer_service_url="http://customer-service:8002",
        employee_service_url="http://employee-service:8003",
        vehicle_service_url="http://vehicleandproject-service:8004",
        upstream_timeout_s=2.0,
        upstream_auth="caller",
        cache_key_prefix="appointment_service",
        cache_timeout_s=300,
        cache_l1_timeout_s=10,
        cache_l1_maxsize=10_000,
        cache_negative_timeout_s=60,
        cache_stale_timeout_s=3600,
        max_concurrent_appointments=3,
        default_appointment_duration_minutes=60,
        business_timezone=ZoneInfo("UTC"),
        cors_allowed_origins=(),
        allowed_hosts=(),
        rate_limit_per_minute=60_000,
        rate_limit_costly_per_minute=6_000,
        event_stream_maxlen=0,
        metrics_enabled=True,
        metrics_token=None,
    )


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "postgres"])
def test_every_postgresql_url_means_psycopg2(scheme: str) -> None:
    """SQLAlchemy would take a bare postgresql:// to mean another driver."""
    settings = Settings.from_mapping({**NEEDED, "DATABASE_URL": f"{scheme}://u:p@h:5433/d?sslmode=require"})

    assert settings.database_url == "postgresql+psycopg2://u:p@h:5433/d?sslmode=require"


def test_the_database_may_be_named_in_parts() -> None:
    """Without a URL the platform's five variables are used; a password may hold any character."""
    parts = {"DB_HOST": "db", "DB_PASSWORD": "p@ss/word", "APPOINTMENT_DB_NAME": "appts"}

    settings = Settings.from_mapping({"SECRET_KEY": SECRET, **parts})

    assert settings.database_url == "postgresql+psycopg2://postgres:p%40ss%2Fword@db:5432/appts"


def test_hosts_may_be_ipv6_addresses() -> None:
    """An IPv6 address has brackets in a URL, and may be given with and without them."""
    for host in ("::1", "[::1]"):
        settings = Settings.from_mapping({"SECRET_KEY": SECRET, "REDIS_HOST": host, "DB_HOST": host})

        assert settings.redis_url == "redis://[::1]:6379/1"
        assert settings.database_url == "postgresql+psycopg2://postgres@[::1]:5432/servease_appointments"


def test_redis_url_overrides_host_and_port() -> None:
    """Host and port make a URL for database 1; a URL wins over both."""
    assert (
        Settings.from_mapping({**NEEDED, "REDIS_HOST": "r", "REDIS_PORT": "1234"}).redis_url
        == "redis://r:1234/1"
    )
    url = "rediss+sentinel://a:1,b:2/main/1?sentinel_password=x&ssl_ca_certs=/ca.pem"
    assert Settings.from_mapping({**NEEDED, "REDIS_HOST": "r", "REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize("url", ["redis://h/1?db=1", "redis://h?db=2", "unix:///run/redis.sock?db=2"])
def test_a_database_may_be_named_twice_if_it_is_the_same(url: str) -> None:
    """Only two different numbers are a mistake."""
    assert Settings.from_mapping({**NEEDED, "REDIS_URL": url}).redis_url == url


def test_empty_values_count_as_unset() -> None:
    """Compose files hand over empty strings for what nobody has set."""
    assert (
        Settings.from_mapping({**NEEDED, "CACHE_TIMEOUT": "", "CORS_ALLOWED_ORIGINS": ""}).cache_timeout_s
        == 300
    )


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("REDIS_HOST", "redis/2", "a host name or an IP address"),
        ("REDIS_HOST", "redis:6379", "a host name or an IP address"),
        ("REDIS_HOST", "redis?db=2", "a host name or an IP address"),
        ("REDIS_HOST", "[::1", "a host name or an IP address"),
        ("REDIS_PORT", "0", "a whole number from 1 to 65535"),
        ("REDIS_URL", "http://h", "redis+cluster://"),
        ("REDIS_URL", "redis://h/one", "redis://"),
        ("REDIS_URL", "unix://", "unix://"),
        ("REDIS_URL", "redis+sentinel://a:1,b:2", "/SERVICE/"),
        ("REDIS_URL", "redis+sentinel://a:1,b:x/main", "/SERVICE/"),
        ("REDIS_URL", "redis+sentinel://a:1/main?db=true", "rediss+sentinel:// "),
        ("REDIS_URL", "redis+sentinel://a:1/main?protocol=3", "sentinel_password"),
        ("REDIS_URL", "redis+cluster://a:1?ssl_cert_reqs=none", "rediss+cluster:// use TLS"),
        ("REDIS_URL", "redis+cluster://", "redis+cluster://"),
        ("REDIS_URL", "redis+cluster://a:1,b:2/1", "redis+cluster://"),
        ("REDIS_URL", "redis://h/1?db=2", "with one database"),
        ("REDIS_URL", "redis://h?db=1&db=2", "with one database"),
        ("REDIS_URL", "redis+sentinel://h:1/main/1?db=2", "with one database"),
        ("DATABASE_URL", "mysql://h/d", "postgresql://"),
        ("DATABASE_URL", "postgresql://h/d?sslmode=zz", "sslmode can be disable, allow"),
        ("DATABASE_URL", "postgresql://h/d?sslmode=", "sslmode can be disable, allow"),
        ("DATABASE_URL", "postgresql://h/d?sslmode=require&sslmode=disable", "sslmode can be disable"),
        ("DATABASE_URL", "postgresql://h/d?target_session_attrs=primaries", "libpq"),
        ("DATABASE_SCHEMA", "Own Schema", "lower-case letters"),
        ("DATABASE_REPLICA_URL", "mysql://h/d", "as for DATABASE_URL"),
        ("DATABASE_REPLICA_MAX_LAG", "0", "a number from 0.1 to 5"),
        ("DB_HOST", "db:5432", "a host name or an IP address"),
        ("DB_HOST", "user@db", "a host name or an IP address"),
        ("APPOINTMENT_DB_NAME", "appointments?sslmode=disable", "without ?"),
        ("CUSTOMER_SERVICE_URL", "customer-service", "http:// or https://"),
        ("EMPLOYEE_SERVICE_URL", "ftp://h", "without query, user or password"),
        ("VEHICLE_SERVICE_URL", "http://h:99999", "http:// or https://"),
        ("VEHICLE_SERVICE_URL", "http://vehicle service", "http:// or https://"),
        ("UPSTREAM_TIMEOUT", "nan", "a number from 0.05 to 25"),
        ("UPSTREAM_AUTH", "none", "caller or service"),
        ("CACHE_KEY_PREFIX", "a b*", "letters, digits"),
        ("CACHE_TIMEOUT", "soon", "seconds"),
        ("CACHE_L1_TIMEOUT", "-1", "seconds"),
        ("CACHE_L1_MAXSIZE", "0", "a whole number from 1"),
        ("CACHE_NEGATIVE_TIMEOUT", "inf", "seconds"),
        ("CACHE_STALE_TIMEOUT", "-5", "seconds"),
        ("MAX_CONCURRENT_APPOINTMENTS", "0", "a whole number from 1"),
        ("DEFAULT_APPOINTMENT_DURATION", "1.5", "a whole number from 1"),
        ("BUSINESS_TIMEZONE", "Mars/Olympus", "IANA"),
        ("CORS_ALLOWED_ORIGINS", "*", "a comma list of origins"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com/login", "a comma list of origins"),
        ("ALLOWED_HOSTS", "https://api.example.com", "without port"),
        ("ALLOWED_HOSTS", "api.example.com:443", "without port"),
        ("ALLOWED_HOSTS", "*", "without port"),
        ("METRICS_ENABLED", "maybe", "1 or 0"),
    ],
)
def test_a_bad_value_is_one_line_with_name_value_and_what_is_allowed(
    name: str, value: str, allowed: str
) -> None:
    """Each mistake names the variable, the value and what would do."""
    (line,) = problems(**{name: value})

    assert line.startswith(f"{name}={value!r} ")
    assert allowed in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("REDIS_URL", "redis://h/1?no_such_option=1", "no_such_option"),
        ("REDIS_URL", "redis://h/1?socket_timeout=soon", "socket_timeout"),
        ("REDIS_URL", "redis://h/1?protocol=2", "protocol=2"),
        ("REDIS_URL", "redis://h/1?decode_responses=true", "decode_responses"),
        ("REDIS_URL", "rediss://h/1?ssl_cert_reqs=maybe", "maybe"),
        ("DATABASE_URL", "postgresql://h/d?no_such_option=1", "no_such_option"),
        ("DATABASE_REPLICA_URL", "postgresql://h/d?no_such_option=1", "no_such_option"),
    ],
)
def test_options_in_urls_that_no_driver_knows_stop_the_start(name: str, value: str, why: str) -> None:
    """The drivers look at them when they first connect, and then each request would end in an error."""
    with pytest.raises(SettingsError) as caught:
        create_app(Settings.from_mapping({**NEEDED, name: value}))

    (line,) = caught.value.problems
    assert line.startswith(f"{name}='")
    assert "://h/" in line
    assert why in line.partition("can't be used: ")[2]
    assert "\n" not in line


def test_all_mistakes_are_told_at_once() -> None:
    """Nobody has to start the service five times to find five mistakes."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_mapping({"SECRET_KEY": "short", "CACHE_TIMEOUT": "x", "REDIS_PORT": "y"})

    assert [line.partition("=")[0].partition(" ")[0] for line in caught.value.problems] == [
        "CACHE_TIMEOUT",
        "REDIS_PORT",
        "SECRET_KEY",
        "DATABASE_URL",
    ]


@pytest.mark.parametrize(
    "secret", ["short", "x" * 31, *sorted(SAMPLE_SECRET_KEYS), "django-insecure-" + "a" * 40]
)
def test_weak_and_published_secrets_are_refused_and_not_shown(secret: str) -> None:
    """A key below 32 bytes, or one from a sample, starts nothing; the message does not repeat it."""
    (line,) = problems(SECRET_KEY=secret)

    assert "32 bytes" in line
    assert secret not in line


def test_the_sample_of_the_env_file_is_refused() -> None:
    """Copying .env.example without changing the key must not start a service."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    sample = next(line.partition("=")[2] for line in lines if line.startswith("SECRET_KEY="))

    assert problems(SECRET_KEY=sample)


def test_repr_shows_no_secret() -> None:
    """Settings end up in logs and tracebacks."""
    urls = {"DATABASE_URL": "postgresql://u:db-pw@h/d", "REDIS_URL": "redis://:redis-pw@h/1"}

    shown = repr(Settings.from_mapping({"SECRET_KEY": SECRET, "METRICS_TOKEN": "scrape-0123456789", **urls}))

    assert SECRET not in shown
    assert "scrape" not in shown
    assert "-pw" not in shown
    assert "redis://:***@h/1" in shown


def test_passwords_of_urls_that_are_refused_are_masked() -> None:
    """The line about a bad URL shows it, but not its password."""
    (line,) = problems(DATABASE_URL="mysql://u:pw-of-mine@h/d")

    assert "mysql://u:***@h/d" in line
    assert mask_url("redis://:a:b@h") == "redis://:***@h"


@pytest.mark.parametrize("token", ["short", "sixteen or more, with blanks", "x" * 513])
def test_a_token_for_metrics_that_can_not_be_used_is_not_shown(token: str) -> None:
    """The line says what is allowed instead."""
    (line,) = problems(METRICS_TOKEN=token)

    assert line.startswith("METRICS_TOKEN='***' ")
    assert "at least 16" in line


PASSWORD = "hush-REST"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://u:p@{PASSWORD}@h",
        f"redis://{PASSWORD}@h",
        f"redis://:{PASSWORD}@h:6379/1",
        f"redis://u:x/{PASSWORD}@h/1",
        f"redis://u:x%40{PASSWORD}@h",
        f"redis://u:x?{PASSWORD}@h",
        f"redis://u:x#{PASSWORD}@h",
        f"redis://u:x#y?{PASSWORD}@h",
        f"redis://h/1?password={PASSWORD}",
        f"redis://h/1?pass%77ord={PASSWORD}",
        f"redis://h/1?db=1&password=a@{PASSWORD}",
        f"redis://h/1#{PASSWORD}",
        f"unix://:{PASSWORD}@/tmp/socket?db=1",
        f"redis+sentinel://u:{PASSWORD}@h1:1,h2:2/main/1",
        f"postgresql://u:{PASSWORD}@h/d?sslmode=require",
        f"postgresql://h/d?user=u&password={PASSWORD}&sslpassword={PASSWORD}",
        f"u:{PASSWORD}@redis://h",
        f"redis:{PASSWORD}@h",
    ],
)
def test_no_way_to_write_a_password_gets_past_the_mask(url: str) -> None:
    """Whatever stands before the last @, in a query or behind a # may be one."""
    assert PASSWORD not in mask_url(url)
    for name in ("REDIS_URL", "DATABASE_URL", "CUSTOMER_SERVICE_URL", "CORS_ALLOWED_ORIGINS"):
        refused = re.sub(r"^[a-z+]+://", "ftp://", url)
        lines = problems(**{name: f"{refused}{'x' * 300}" if name == "REDIS_URL" else refused})
        assert not [line for line in lines if PASSWORD in line]


@pytest.mark.parametrize(
    "value", [f"redis:{PASSWORD}", f"redis://u:{PASSWORD}", f"postgresql://u:{PASSWORD}/d"]
)
def test_a_password_without_a_host_is_not_shown_either(value: str) -> None:
    """The host was forgotten: what stands in the place of its port is no number."""
    for name in ("REDIS_URL", "DATABASE_URL"):
        assert not [line for line in problems(**{name: value}) if PASSWORD in line]


def test_what_the_mask_leaves_still_says_where() -> None:
    """Host, database and harmless options are what an operator looks for."""
    assert mask_url("redis://worker:a@b@cache:6379/1?db=1&password=x") == (
        "redis://worker:***@cache:6379/1?db=1&password=***"
    )
    assert mask_url("http://customers:8002/api") == "http://customers:8002/api"


def test_a_host_gives_settings_with_a_prefix_and_nothing_else_is_read() -> None:
    """Its own SECRET_KEY and CACHE_KEY_PREFIX mean something else."""
    config = {
        "SECRET_KEY": "h" * 40,
        "CACHE_KEY_PREFIX": "shop",
        "DATABASE_URL": "postgresql://shop/shop",
        "SERVEASE_SECRET_KEY": SECRET,
        "SERVEASE_DATABASE_URL": "postgresql://h/d",
        "SERVEASE_CACHE_TIMEOUT": 60,
    }

    settings = Settings.from_config(config)

    assert (settings.secret_key, settings.cache_key_prefix) == (SECRET, "appointment_service")
    assert settings.database_url == "postgresql+psycopg2://h/d"
    assert settings.cache_timeout_s == 60
    assert not settings.metrics_enabled
    assert Settings.from_config({**config, "SERVEASE_METRICS_ENABLED": True}).metrics_enabled


def test_a_hosts_own_secret_key_does_not_stand_in() -> None:
    """Tokens that a host signs for other purposes would be let in; the line names the key that is missing."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_config({"SECRET_KEY": SECRET, "SERVEASE_DATABASE_URL": "mysql://h/d"})

    assert [line.partition("=")[0].partition(" ")[0] for line in caught.value.problems] == [
        "SERVEASE_DATABASE_URL",
        "SERVEASE_SECRET_KEY",
    ]


def test_a_schema_becomes_the_search_path_of_each_connection() -> None:
    """Every name of a table is looked up there; a URL that sets session options itself is not second-guessed."""
    wanted = {**NEEDED, "DATABASE_SCHEMA": "servease"}
    url = NEEDED["DATABASE_URL"].partition("://")[2]

    assert Settings.from_mapping(wanted).database_url.endswith(f"{url}?options=-csearch_path%3Dservease")
    assert problems(DATABASE_SCHEMA="servease", DATABASE_URL="postgresql://h/d?options=-cjit%3Doff")


def test_a_replica_is_another_server_with_the_same_tables() -> None:
    """Its URL means psycopg2 and the schema as well; the primary's own and a second search path are mistakes."""
    wanted = {**NEEDED, "DATABASE_SCHEMA": "servease", "DATABASE_REPLICA_URL": "postgresql://u:pw@copy/d"}
    settings = Settings.from_mapping(wanted)
    expected = "postgresql+psycopg2://u:pw@copy/d?options=-csearch_path%3Dservease"
    assert (settings.database_replica_url, settings.database_replica_max_lag_s) == (expected, 1.0)
    assert "pw" not in repr(settings)

    (line,) = problems(DATABASE_REPLICA_URL=NEEDED["DATABASE_URL"])
    assert line.startswith("DATABASE_REPLICA_URL='postgresql://u:***@db/appointments' ")
    assert "not the same" in line
    given = "postgresql://copy/d?options=-cjit%3Doff"
    assert problems(DATABASE_SCHEMA="servease", DATABASE_REPLICA_URL=given)


def test_settings_can_not_be_changed() -> None:
    """One frozen object for the life of the process."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings.from_mapping(NEEDED).cache_timeout_s = 1  # type: ignore[misc]


def test_the_service_refuses_to_start_with_one_line_a_mistake() -> None:
    """Loading wsgi.py with a bad environment ends with 1, lines and no traceback."""
    env = {**os.environ, **NEEDED, "SECRET_KEY": "short", "CACHE_TIMEOUT": "soon"}

    done = subprocess.run(
        [sys.executable, "-c", "import wsgi"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert [line.partition("=")[0] for line in done.stderr.splitlines()] == ["CACHE_TIMEOUT", "SECRET_KEY"]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("CACHE_TIMEOUT", "soon", "seconds, a number from 1 to 86400"),
        ("WEB_CONCURRENCY", "0", "a whole number from 1 to 256"),
        ("WEB_THREADS", "eight", "a whole number from 1 to 256"),
        ("WEB_THREADS", "9" * 5000, "a whole number from 1 to 256"),
    ],
)
def test_gunicorn_ends_at_once_over_a_bad_environment(
    name: str, value: str, allowed: str, tmp_path: Path
) -> None:
    """One line from the master and exit code 1: workers that can't start would be replaced for ever."""
    env = {**os.environ, **NEEDED, name: value, "BIND": "127.0.0.1:0", "TMPDIR": str(tmp_path)}
    env.pop("PROMETHEUS_MULTIPROC_DIR", None)
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]

    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if name in line] == [
        f"{name}={value!r} can't be used: allowed is {allowed}"
    ]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
