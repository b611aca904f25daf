"""The document by the tools of others: Redocly finds nothing wrong, and generated clients do a day's work.

The tools are installed by `make api-tools`, the ones for TypeScript only where npm is installed.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.dataset import weekday
from tests.support.served import Served

HERE = Path(__file__).parent
TOOLS = HERE.parents[1] / ".venv-api-tools"
NODE_MODULES = TOOLS / "node" / "node_modules"
GENERATOR = TOOLS / "bin" / "openapi-python-client"
_TIMEOUT_S = 90

needs_npm_packages = pytest.mark.skipif(
    not NODE_MODULES.is_dir(), reason="Redocly and TypeScript are not installed (npm, then: make api-tools)"
)
needs_python_generator = pytest.mark.skipif(
    not GENERATOR.exists(), reason="openapi-python-client is not installed (make api-tools)"
)


def run(*command: str | Path, folder: Path) -> str:
    """Run a command in a folder and return what it prints; fail with all that it printed."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_round_trip(served: Served, folder: Path, *command: str | Path) -> None:
    """Run a client as an employee, who books for Alice, and check what it has seen in each step."""
    dataset = served.dataset
    dataset.clear()
    dataset.appointment(status="pending")
    bearer = dataset.erin._headers["Authorization"].removeprefix("Bearer ")
    base_url = f"http://127.0.0.1:{served.gunicorn.port}/api/v1"
    arguments = (base_url, bearer, dataset.alice_id, dataset.alices_car, weekday(12).isoformat())
    seen = json.loads(run(*command, *arguments, folder=folder))
    status, errors = seen.pop("twice")
    assert status == 400
    assert set(errors) == {"detail"}
    assert seen == {
        "listed": 1,
        "booked": "Alice Ant",
        "etag": True,
        "moved_to": "14:00:00",
        "cancelled": "cancelled",
        "without_token": [401, "Authentication credentials were not provided."],
    }


@needs_npm_packages
def test_redocly_finds_nothing_wrong(document_folder: Path) -> None:
    """By the strict rules, with the exceptions that two files here argue, there is no error and no warning."""
    for name in ("redocly.yaml", ".redocly.lint-ignore.yaml"):
        shutil.copy(HERE / name, document_folder)
    run(
        "node",
        NODE_MODULES / "@redocly" / "cli" / "bin" / "cli.js",
        "lint",
        "openapi.json",
        folder=document_folder,
    )


@needs_npm_packages
def test_a_typescript_client(served: Served, document_folder: Path) -> None:
    """openapi-typescript's types compile under `--strict`, and the client that uses them runs."""
    (document_folder / "node_modules").symlink_to(NODE_MODULES)
    for name in ("package.json", "round_trip.ts"):
        shutil.copy(HERE / name, document_folder)
    generator = NODE_MODULES / "openapi-typescript" / "bin" / "cli.js"
    # By default, a field with a default would be required in requests, too.
    run(
        "node", generator, "openapi.json", "--default-non-nullable=false", "--output", "schema.d.ts",
        folder=document_folder,
    )  # fmt: skip
    compiler = NODE_MODULES / "typescript" / "bin" / "tsc"
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom")
    run("node", compiler, *options, "round_trip.ts", folder=document_folder)
    check_round_trip(served, document_folder, "node", "round_trip.js")


@needs_python_generator
def test_a_python_client(served: Served, document_folder: Path) -> None:
    """openapi-python-client generates a package without a warning, and the client that uses it runs."""
    (document_folder / "config.json").write_text(
        '{"post_hooks": [], "package_name_override": "servease_client"}'
    )
    printed = run(
        GENERATOR, "generate", "--path", "openapi.json", "--output-path", "servease_client",
        "--config", "config.json", "--meta", "none", "--fail-on-warning",
        folder=document_folder,
    )  # fmt: skip
    assert "Warning" not in printed
    shutil.copy(HERE / "round_trip.py", document_folder)
    check_round_trip(served, document_folder, TOOLS / "bin" / "python", "round_trip.py")
