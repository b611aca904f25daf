"""`servease`: the commands in any folder, completion in a shell, and an early Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from servease_appt import console
from tests.support.dataset import SECRET
from tests.support.processes import bare_environment

ROOT = Path(__file__).resolve().parents[2]
HELD_IMPORT = """
import runpy, signal, sys

class Hold:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[2]:
            print("importing", flush=True)
            signal.pause()

sys.meta_path.insert(0, Hold())
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
"""


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which this tree's package is found from any folder."""
    return {**bare_environment(), "PYTHONPATH": str(ROOT), **more}


def test_it_runs_in_any_folder(tmp_path: Path, redis_url: str) -> None:
    """Only the environment says which service is meant."""
    variables = {"SECRET_KEY": SECRET, "DATABASE_URL": "postgresql://h/d", "REDIS_URL": redis_url}
    done = subprocess.run(
        [sys.executable, "-m", "servease_appt.console", "cache", "keys", "--json"],
        cwd=tmp_path,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_a_missing_variable_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `flask --app wsgi` says it."""
    monkeypatch.setattr(sys, "argv", ["servease", "cache", "keys"])
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("DB_HOST", raising=False)
    with pytest.raises(SystemExit, match=r"^DATABASE_URL is not set: "):
        console.main()


@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("servease_appt.console", "flask"),
        ("servease_appt.serving.start", "gunicorn.app.wsgiapp"),
        ("servease_appt.demo", "servease_appt.demo.run"),
    ],
)
def test_ctrl_c_during_the_imports_prints_nothing(program: str, module: str) -> None:
    """Seen to fail: a traceback out of the import system."""
    with subprocess.Popen(
        [sys.executable, "-c", HELD_IMPORT, program, module],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert errors == ""


def test_bash_completes(tmp_path: Path) -> None:
    """The line of docs/operations.md, and then the function that bash calls for a Tab."""
    (line,) = [
        line.partition("#")[0]
        for line in (ROOT / "docs" / "operations.md").read_text("utf-8").splitlines()
        if line.startswith("eval") and "bash" in line
    ]
    command = tmp_path / "servease"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m servease_appt.console "$@"\n')
    command.chmod(0o700)
    script = (
        f"{line}\nCOMP_WORDS=(servease cache get cu); COMP_CWORD=3\n"
        '_servease_completion servease "${COMP_WORDS[-1]}"\necho "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    shell = subprocess.run(
        ["bash", "-c", script], env=environment(PATH=path), capture_output=True, text=True, check=False
    )
    assert shell.stdout.split() == ["customer"], shell.stderr
