"""Fetch Flask-Caching's tests (they are in its sdist) and run them with TwoTierBackend: `make test-flask-caching`.

The sdist is that of the version in requirements.lock, checked by its hash. Its conftest.py is replaced by
`suite_conftest.py`, which names the backend, `generic_cases.py` is put beside its tests, and where a test names
RedisCache and a port, it gets the backend and the port of a server started here. Arguments are handed
to pytest; `--redis-cache` as the first runs the same tests with Flask-Caching's RedisCache, to compare.
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

from servease_appt.testing.servers import EmbeddedValkey

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

DOES_NOT_APPLY = {
    "test_backend_cache.py": "of Flask-Caching's own backend classes; generic_cases.py runs its generic cases",
    "test_cachelib.py": "of cachelib's classes as backends",
    "test_init.py::test_init_nullcache": "of the construction of Flask-Caching's own backend classes",
    "test_serializer.py::test_default_keeps_the_cachelib_serializer": "there is a serializer of our own",
    "test_serializer.py::test_values_are_stored_in_the_configured_format": "looks into SimpleCache's dict",
    **dict.fromkeys(
        [
            "test_basic_app.py::test_app_redis_cache_backend_url_default_db",
            "test_basic_app.py::test_app_redis_cache_backend_url_custom_db",
            "test_basic_app.py::test_app_redis_cache_backend_url_explicit_db_arg",
        ],
        "looks at a private client of RedisCache; test_flask_caching_settings.py compares the databases",
    ),
    "test_view.py::test_async_cached_view": "needs Flask's extra for async views",
}
"""Test files and tests that are not run, each with the reason."""


def main() -> int:
    """Fetch, run and report. Returns pytest's exit code."""
    arguments, backend = sys.argv[1:], "servease_appt.cache.flask_caching.TwoTierBackend"
    if arguments[:1] == ["--redis-cache"]:
        arguments, backend = arguments[1:], "RedisCache"
    with tempfile.TemporaryDirectory(prefix="flask-caching-") as directory, EmbeddedValkey() as server:
        tests = _fetch(Path(directory))
        for test in tests.glob("test_*.py"):
            text = test.read_text().replace("6360", str(server.port))
            test.write_text(text.replace('"CACHE_TYPE": "RedisCache"', f'"CACHE_TYPE": "{backend}"'))
        shutil.copy(HERE / "suite_conftest.py", tests / "conftest.py")
        shutil.copy(HERE / "generic_cases.py", tests / "test_two_tier_backend.py")
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-ra",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(tests),
        ]
        words += ["-c", os.devnull, "--timeout", "60"]
        words += [f"--deselect={name}" for name in DOES_NOT_APPLY]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "SUITE_BACKEND": backend}
        environment["SUITE_REDIS_URL"] = server.url(1)
        code = subprocess.run([*words, *arguments], cwd=tests, env=environment, check=False).returncode
    report = "".join(f"  {name}: {reason}\n" for name, reason in DOES_NOT_APPLY.items())
    sys.stdout.write(f"Not run, since it does not apply:\n{report}")
    return code


def _fetch(directory: Path) -> Path:
    """Download and unpack the sdist. Returns the directory of its tests."""
    locked = re.search(
        r"^flask-caching==.*?(?=^\S)", (ROOT / "requirements.lock").read_text(), re.MULTILINE | re.DOTALL
    )
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
