"""`servease-gunicorn`: gunicorn's arguments, and one line for what gunicorn itself stumbles over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import bare_environment

ROOT = Path(__file__).parents[2]
NEEDED = {"SECRET_KEY": "k3" * 16, "DATABASE_URL": "postgresql://h/d"}


def start(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command, in the repository."""
    return subprocess.run(
        [sys.executable, "-m", "servease_appt.serving.start", *arguments],
        cwd=ROOT,
        env={**bare_environment(), "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("value", ["abc", "-1", "1.5", "²", "257"])
def test_a_number_of_workers_that_is_none_is_one_line(value: str) -> None:
    """gunicorn alone ends with a traceback of its own."""
    done = start("-c", "gunicorn.conf.py", "wsgi:app", WEB_CONCURRENCY=value)

    assert done.returncode == 1
    assert (
        done.stderr == f"WEB_CONCURRENCY={value!r} can't be used: allowed is a whole number from 1 to 256\n"
    )


@pytest.mark.parametrize(("value", "workers"), [("", 2), ("3", 3)])
def test_arguments_are_gunicorns(value: str, workers: int, tmp_path: Path) -> None:
    """An empty value counts as unset, as compose files hand it over."""
    more = {"WEB_CONCURRENCY": value, "TMPDIR": str(tmp_path), **NEEDED}
    done = start("-c", "gunicorn.conf.py", "--print-config", "wsgi:app", **more)

    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("workers ")]
    assert line.split()[-1] == str(workers)
