"""Fetch Flask-Caching's tests (they are in its sdist) and run them with TwoTierBackend: `make test-flask-caching`.

The sdist is that of the version in requirements.lock, checked by its hash. Its conftest.py is replaced by
`suite_conftest.py`, which names the backend, and `generic_cases.py` is put beside its tests. Arguments are handed
to pytest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

DOES_NOT_APPLY = {
    "test_backend_cache.py": "tests of Flask-Caching's own backend classes; their generic cases are run by generic_cases.py",
}
"""Test files and tests that are not run, each with the reason."""


def main() -> int:
    """Fetch, run and report. Returns pytest's exit code."""
    with tempfile.TemporaryDirectory(prefix="flask-caching-") as directory:
        tests = _fetch(Path(directory))
        shutil.copy(HERE / "suite_conftest.py", tests / "conftest.py")
        shutil.copy(HERE / "generic_cases.py", tests / "test_two_tier_backend.py")
        words = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--rootdir", str(tests)]
        words += ["-c", os.devnull, "--timeout", "60"]
        words += [f"--deselect={name}" for name in DOES_NOT_APPLY]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        code = subprocess.run([*words, *sys.argv[1:]], cwd=tests, env=environment, check=False).returncode
    print("Not run, since it does not apply:")
    for name, reason in DOES_NOT_APPLY.items():
        print(f"  {name}: {reason}")
    return code


def _fetch(directory: Path) -> Path:
    """Download and unpack the sdist. Returns the directory of its tests."""
    locked = re.search(r"^flask-caching==.*?(?=^\S)", (ROOT / "requirements.lock").read_text(), re.M | re.S)
    if locked is None:
        raise SystemExit("requirements.lock names no flask-caching")
    wanted = directory / "wanted.txt"
    wanted.write_text(locked.group())
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--no-binary", "flask-caching", "--require-hashes", "--requirement", wanted, "--dest", directory],
        check=True,
    )  # fmt: skip
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        sdist.extractall(directory, filter="data")
    (tests,) = directory.glob("flask_caching-*/tests")
    return tests


if __name__ == "__main__":
    sys.exit(main())
