"""Backup and restore of PostgreSQL as docs/operations.md describes it, with PostgreSQL's own programs."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from servease_appt.testing.fake_services import FakeServices
from servease_appt.testing.processes import wait_until
from servease_appt.testing.servers import EmbeddedPostgres, postgres_binary
from tests.support.dataset import Asker, Dataset
from tests.support.served import settings

CHANGES = "/appointments/changes/"


class Backup:
    """A dump of one database, which can be restored into a new database of the same name."""

    def __init__(self, server: EmbeddedPostgres, name: str, file: Path) -> None:
        self._server = server
        self._name = name
        self._file = file

    def make(self) -> None:
        """Dump the database while the service uses it."""
        self._run("pg_dump", "--format=custom", "--file", str(self._file), self._server.url(self._name))

    def restore(self) -> None:
        """Drop the database with the connections that it has, and make it anew from the dump."""
        self._server.drop_database(self._name)
        url = self._server.create_database(self._name, "template0")
        self._run("pg_restore", "--exit-on-error", "--dbname", url, str(self._file))

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(postgres_binary(program)), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def dataset(
    postgres: EmbeddedPostgres, migrated_postgres_url: str, redis_url: str, fake_services: FakeServices
) -> Iterator[Dataset]:
    """The service on a database of its own."""
    app = create_app(Settings.from_mapping(settings(migrated_postgres_url, redis_url, fake_services)))
    yield Dataset(app, fake_services)
    app.extensions[EXTENSION].close()


@pytest.fixture
def backup(
    dataset: Dataset, postgres: EmbeddedPostgres, migrated_postgres_url: str, tmp_path: Path
) -> Backup:
    """A backup of that database, which has not been made yet."""
    return Backup(postgres, migrated_postgres_url.rpartition("/")[2], tmp_path / "appointments.dump")


def position(asker: Asker) -> str:
    """Return the query that continues the feed of changes after all there is."""
    answer = asker.get(f"{CHANGES}?page_size=500").get_json()
    assert not answer["has_more"]
    address: str = answer["next"]
    return urlsplit(address).query


def answers(asker: Asker) -> Callable[[], bool]:
    """Return a check whether the service has connected to the restored database."""
    return lambda: asker.get("/health/ready/").status_code == 200


def test_a_restored_database_is_served_by_the_workers_that_run(dataset: Dataset, backup: Backup) -> None:
    """Bookings, counts, tags and idempotency keys are those of the backup, and the cache goes on."""
    body = dataset.booking()
    key = {"Idempotency-Key": "once"}
    booked = dataset.alice.ask("POST", "/appointments/", key, json=body)
    path = f"/appointments/{booked.get_json()['id']}/"
    tag = dataset.erin.get(path).headers["ETag"]
    backup.make()
    lost = dataset.appointment()
    dataset.erin.patch(path, {"internal_notes": "written after the backup"})
    backup.restore()

    assert wait_until(answers(dataset.erin), timeout_s=20)
    restored = dataset.erin.get(path)
    assert restored.headers["ETag"] == tag
    assert restored.headers["X-Cache"].startswith("l1=2 l2=0 upstream=0")
    assert dataset.erin.get(f"/appointments/{lost}/").status_code == 404
    page = dataset.erin.get("/appointments/").get_json()
    assert (page["count"], [row["id"] for row in page["results"]]) == (1, [booked.get_json()["id"]])
    again = dataset.alice.ask("POST", "/appointments/", key, json=body)
    assert (again.status_code, again.get_json()["id"]) == (201, booked.get_json()["id"])
    findings = dataset.app.test_cli_runner().invoke(args=["db", "check"])
    assert (findings.exit_code, "kept counts: 0 wrong" in findings.output) == (0, True), findings.output


def test_a_position_that_the_restore_lost_is_gone(dataset: Dataset, backup: Backup) -> None:
    """Also after the restored database has given the same numbers to other changes."""
    dataset.appointment()
    kept = position(dataset.erin)
    backup.make()
    lost = [dataset.appointment() for _ in range(3)]
    gone = position(dataset.erin)
    backup.restore()

    assert wait_until(answers(dataset.erin), timeout_s=20)
    assert dataset.erin.get(f"{CHANGES}?{gone}").status_code == 410
    made = [dataset.appointment() for _ in range(len(lost) + 1)]
    seen = [row["appointment_id"] for row in dataset.erin.get(f"{CHANGES}?{kept}").get_json()["results"]]
    assert seen == made
    for asker in (dataset.erin, dataset.alice):
        assert asker.get(f"{CHANGES}?{gone}").status_code == 410
