"""Every command of ours that a document names is run as it stands there."""

import re
from pathlib import Path

import pytest

from servease_appt.app import create_app
from servease_appt.container import EXTENSION
from servease_appt.settings import Settings
from tests.support.cli import Cli
from tests.support.served import Served

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMMAND = re.compile(r"flask --app wsgi ((?:cache|db|slots)\b[^\n|`#]*)")
CUSTOMER = re.compile(r"(?<=customer )(?:UUID|[0-9a-f-]{36})")
STREAMS = {"cache monitor"}
"""What runs until Ctrl-C; tests/cli/test_streams.py has these."""

DOCUMENTED = {
    command.strip(): document
    for document in DOCUMENTS
    for command in COMMAND.findall(document.read_text("utf-8"))
}
OF_THE_CACHE = sorted(name for name in DOCUMENTED if name.startswith("cache") and name not in STREAMS)


@pytest.mark.parametrize("command", OF_THE_CACHE)
def test_a_command_of_the_cache(served: Served, cli: Cli, command: str) -> None:
    """It ends with 0 on a service that has a customer in its cache."""
    dataset = served.dataset
    dataset.appointment()
    assert served.get("/api/v1/appointments/").status == 200
    words = CUSTOMER.sub(dataset.alice_id, command).split()
    result = cli.app.test_cli_runner().invoke(args=words)
    assert result.exit_code == 0, result.output


def test_the_commands_of_the_database(migrated_postgres_url: str, redis_url: str, served: Served) -> None:
    """All of one document after the other, in its order, on a database of their own."""
    environment = {**served.gunicorn.settings, "DATABASE_URL": migrated_postgres_url, "REDIS_URL": redis_url}
    app = create_app(Settings.from_mapping(environment))
    commands = [name for name in DOCUMENTED if name.startswith(("db", "slots"))]
    assert len(commands) > 5
    try:
        for command in commands:
            result = app.test_cli_runner().invoke(args=command.split())
            assert result.exit_code == 0, (command, result.output)
    finally:
        app.extensions[EXTENSION].close()
