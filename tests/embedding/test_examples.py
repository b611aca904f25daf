"""What is in `examples/` works as it stands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis

from servease_appt.testing.fake_services import FakeServices
from tests.support.dataset import SECRET, new_id

EXAMPLES = Path(__file__).parents[2] / "examples"


def _outcomes(module: str, environment: dict[str, str]) -> dict[str, str]:
    """Run the example host's own tests with one of its two modules: the outcome of each test."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(EXAMPLES / "host")],
        env={**os.environ, **environment, "GARAGE_MODULE": module, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return dict(map(reversed, re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE)))


def test_a_hosts_own_tests_pass_with_the_service_as_without(migrated_postgres_url: str) -> None:
    """The same tests, the same outcomes, and all of them good."""
    environment = {"GARAGE_DATABASE_URL": migrated_postgres_url, "SERVEASE_SECRET_KEY": SECRET}

    before = _outcomes("garage", environment)
    after = _outcomes("garage_with_appointments", environment)

    assert len(before) >= 8
    assert set(before.values()) == {"PASSED"}
    assert after == before


def test_the_service_works_in_the_example(migrated_postgres_url: str) -> None:
    """It answers under its prefix, past the host's limit and CSRF protection."""
    script = (
        "import garage_with_appointments, os\n"
        "app = garage_with_appointments.create_app({'SECRET_KEY': 's', 'CACHE_TYPE': 'SimpleCache',"
        " 'SQLALCHEMY_DATABASE_URI': os.environ['URL'], 'SERVEASE_SECRET_KEY': os.environ['KEY']})\n"
        "client = app.test_client()\n"
        "print({client.get('/garage/api/health/').status_code for _ in range(40)},"
        " client.post('/garage/api/appointments/', json={}).status_code)\n"
        "with app.app_context(): garage_with_appointments.db.create_all()\n"
        "print(client.get('/').text)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=EXAMPLES / "host",
        env={
            **os.environ,
            "URL": migrated_postgres_url,
            "KEY": SECRET,
            "PYTHONPATH": os.pathsep.join([str(EXAMPLES / "host"), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["{200} 401", "<ul></ul>"], done.stderr


def _run(script: str, given: object, *paths: Path) -> str:
    """Run a script with `examples/` on its path and `given` as JSON on its input; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        input=json.dumps(given),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, (EXAMPLES, *paths)), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


CELERY = """
import json, sys
from celery.contrib.testing.worker import start_worker
from celery_tasks import make_celery
from flask import Flask
from servease_appt import ServEase

given = json.load(sys.stdin)
app = Flask("garage")
app.config.update(given["config"], CELERY={"broker_url": "memory://", "result_backend": "cache+memory://"})
ServEase().init_app(app)
celery = make_celery(app)
with start_worker(celery, pool="solo", perform_ping_check=False, shutdown_timeout=30):
    greet = celery.tasks["greet"]
    print(greet.delay(given["customer"]).get(timeout=30))
    celery.tasks["customer_renamed"].delay(given["customer"]).get(timeout=30)
"""


def test_celery_tasks_share_the_cache(
    config: dict[str, Any], fake_services: FakeServices, redis_url: str
) -> None:
    """A real worker reads a name through the cache, and drops it from Redis."""
    customer = new_id()
    fake_services.customers.put({"id": customer, "full_name": "Alice Ant", "email": "a@example.com"})
    wanted = {**config, "SERVEASE_REDIS_URL": redis_url, "SERVEASE_UPSTREAM_AUTH": "service"}

    assert "Dear Alice Ant" in _run(CELERY, {"config": wanted, "customer": customer})

    with redis.Redis.from_url(redis_url) as client:
        assert not client.exists(f"appointment_service:customer_{customer}")


DJANGO = """
import json, sys
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["customers"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    REDIS_URL=json.load(sys.stdin),
)
django.setup()
from django.core.management import call_command
from django.db import transaction

call_command("migrate", run_syncdb=True, verbosity=0)
import django_signals
from customers.models import Customer

with transaction.atomic():
    customer = Customer.objects.create()
    print("before the commit", flush=True)
customer.delete()
"""
MODELS = """
from django.db import models

class Customer(models.Model):
    class Meta:
        app_label = "customers"
"""


def test_django_tells_of_changes_after_their_commit(redis_url: str, tmp_path: Path) -> None:
    """One message for the customer that was saved, one for the one that was deleted."""
    package = tmp_path / "customers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text(MODELS)
    with redis.Redis.from_url(redis_url, socket_timeout=30) as client, client.pubsub() as channel:
        channel.subscribe("appointment_service:invalidate")
        assert channel.get_message(timeout=10)

        _run(DJANGO, redis_url, tmp_path)

        told = [channel.get_message(ignore_subscribe_messages=True, timeout=10) for _ in range(2)]

    assert [message and message["data"].rpartition(b"_")[0] for message in told] == [b"customer", b"customer"]
