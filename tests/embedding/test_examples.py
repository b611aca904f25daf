"""What is in `examples/` works as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.dataset import SECRET

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
