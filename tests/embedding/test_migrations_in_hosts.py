"""A host with Flask-Migrate on the same database: its migrations leave the service's tables alone."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from flask import Flask
from sqlalchemy import create_engine, inspect, text

from servease_appt import ServEase
from servease_appt.db.alembic_filter import OUR_TABLES
from servease_appt.testing.fake_services import FakeServices
from tests.embedding.conftest import PREFIX
from tests.support.dataset import Dataset, token

HOST = """
import sys
from pathlib import Path

from flask import Flask
from flask_migrate import Migrate, init, migrate
from flask_sqlalchemy import SQLAlchemy

from servease_appt import ServEase
from servease_appt.db.alembic_filter import include_object

url, options = sys.argv[1], {"include_object": include_object} if sys.argv[2] == "filtered" else {}
db = SQLAlchemy()


class Part(db.Model):
    id = db.Column(db.Integer, primary_key=True)


app = Flask("shop")
app.config.update(SQLALCHEMY_DATABASE_URI=url, SERVEASE_SECRET_KEY="k" * 40, SERVEASE_DATABASE_URL=url)
db.init_app(app)
Migrate(app, db, **options)
ServEase().init_app(app, url_prefix="/garage/api")
with app.app_context():
    init()
    migrate()
(script,) = Path("migrations/versions").glob("*.py")
print("SCRIPT", script.read_text())
"""


def _generated(database_url: str, how: str, directory: Path) -> str:
    """Return the migration that the host's `db migrate` writes."""
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", HOST, database_url, how],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("SCRIPT ")[2]


def test_a_hosts_migration_holds_its_own_tables_alone(migrated_postgres_url: str, tmp_path: Path) -> None:
    """Without the filter it would drop every table of the service."""
    unfiltered = _generated(migrated_postgres_url, "unfiltered", tmp_path / "unfiltered")
    filtered = _generated(migrated_postgres_url, "filtered", tmp_path / "filtered")

    upgrade = filtered.partition("def upgrade")[2].partition("def downgrade")[0]
    assert "create_table('part'" in upgrade
    assert "drop" not in upgrade
    assert "drop_table('appointments')" in unfiltered


def test_every_table_that_an_upgrade_makes_is_known(migrated_postgres_url: str) -> None:
    """A table that is added later and forgotten here would be dropped by hosts."""
    engine = create_engine(migrated_postgres_url)
    try:
        made = set(inspect(engine).get_table_names())
    finally:
        engine.dispose()

    assert len(made) >= 7
    assert made <= OUR_TABLES


def test_the_tables_can_be_in_a_schema_of_their_own(
    postgres_url: str, new_host: Callable[..., Flask], fake_services: FakeServices
) -> None:
    """The host's schema holds none of them, so that its migrations see none; the API works all the same."""
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA servease"))
    host = new_host(SERVEASE_DATABASE_URL=postgres_url, SERVEASE_DATABASE_SCHEMA="servease")
    ServEase().init_app(host, url_prefix=PREFIX)

    upgraded = host.test_cli_runner().invoke(args=["servease", "db", "upgrade"])
    dataset = Dataset(host, fake_services)
    appointment_id = dataset.appointment()
    headers = {"Authorization": f"Bearer {token(user_role='admin')}"}
    page = host.test_client().get(f"{PREFIX}/appointments/", headers=headers).get_json()
    tables = {schema: set(inspect(engine).get_table_names(schema)) for schema in ("public", "servease")}
    engine.dispose()

    assert upgraded.exit_code == 0, upgraded.output
    assert tables["public"] == set()
    assert {"appointments", "idempotency_keys"} <= tables["servease"] <= OUR_TABLES
    assert [row["id"] for row in page["results"]] == [appointment_id]
