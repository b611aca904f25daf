"""What is built and handed out: the wheel serves with a plain install, the sdist can be tested."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import servease_appt

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "packaging" / "servease-cache"
PACKAGE = "servease_appt"
SHIPPED_BUT_NOT_SERVED = (f"{PACKAGE}.demo", f"{PACKAGE}.testing")

IMPORT_ALL = f"""
import importlib, pkgutil, sys

def modules(path, prefix):
    for module in pkgutil.iter_modules(path, prefix):
        if module.name in {SHIPPED_BUT_NOT_SERVED!r} or module.name == "{PACKAGE}.observability.tracing":
            continue
        imported = importlib.import_module(module.name)
        yield module.name
        if module.ispkg:
            yield from modules(imported.__path__, module.name + ".")

import {PACKAGE}
print(*modules({PACKAGE}.__path__, "{PACKAGE}."))
print(*(name for name in sys.modules if name.startswith({SHIPPED_BUT_NOT_SERVED!r})))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel, built by the locked backend without the network."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder, "sdist", "wheel")
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    """Scripts, pages, migrations and the marker of its types are in it; tests are not."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert names == source
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/__init__.py"} <= names


def test_the_wheel_carries_its_bill_of_materials(built: Path) -> None:
    """Where PEP 770 has scanners look for it."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        (path,) = [name for name in wheel.namelist() if ".dist-info/sboms/" in name]
        assert wheel.read(path) == (ROOT / "sbom.cdx.json").read_bytes()


def test_a_plain_install_serves(built: Path, tmp_path: Path) -> None:
    """With the wheel and what it requires alone every module can be imported; none imports demo or test code.

    Tracing has an extra of its own.
    """
    python = plain_install(next(built.glob("*.whl")), tmp_path / "venv")

    done = subprocess.run(
        [python, "-I", "-c", IMPORT_ALL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    served, dragged_in = done.stdout.splitlines()
    assert {f"{PACKAGE}.app", f"{PACKAGE}.cache.flask_caching"} <= set(served.split())
    assert dragged_in == ""


@pytest.fixture(scope="module")
def built_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of the cache alone, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist-cache")
    build(CACHE, folder, "sdist")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as sdist:
        sdist.extractall(folder, filter="data")
    build(next(folder.glob("servease_cache-*/")), folder, "wheel")
    return folder


def test_the_cache_alone_has_the_files_of_the_repository(built_cache: Path) -> None:
    """All of `servease_appt/cache` and nothing else, with the marker of its types and the license."""
    with zipfile.ZipFile(next(built_cache.glob("*.whl"))) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
        about = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    source = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in (ROOT / PACKAGE / "cache").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert files == source | {f"{PACKAGE}/cache/py.typed": b""}
    assert len(about) == 1


def test_a_wheel_of_the_cache_alone_can_be_built_from_the_repository(
    built_cache: Path, tmp_path: Path
) -> None:
    """It is the same as the one from the sdist."""
    build(CACHE, tmp_path, "wheel")

    contents = []
    for folder in (tmp_path, built_cache):
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            contents.append({name for name in wheel.namelist() if not name.endswith(("METADATA", "RECORD"))})
    assert contents[0] == contents[1]


def test_the_cache_alone_works_with_cachetools_and_redis(
    built_cache: Path, tmp_path: Path, redis_url: str
) -> None:
    """The example of its README makes a round trip; nothing of the service is there or needed."""
    python = plain_install(next(built_cache.glob("*.whl")), tmp_path / "venv")
    (example,) = re.findall(
        r"^```python\n(.*?)^```", (CACHE / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    code = f"""
{example.replace("redis://localhost:6379/1", redis_url)}
import importlib.metadata, importlib.util
print(importlib.util.find_spec("flask"), importlib.util.find_spec("servease_appt.app"))
print(importlib.metadata.version("servease-cache"))
"""
    done = subprocess.run(
        [python, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"customer 42\nNone None\n{servease_appt.__version__}\n"


def test_both_distributions_require_the_same_versions() -> None:
    """A lower bound is tested once, for both."""
    service, cache = (
        tomllib.loads((folder / "pyproject.toml").read_text("utf-8")) for folder in (ROOT, CACHE)
    )
    extra = cache["project"]["optional-dependencies"]["flask-caching"]

    assert {*cache["project"]["dependencies"], *extra} <= set(service["project"]["dependencies"])
    for name in ("requires-python", "license", "authors"):
        assert cache["project"][name] == service["project"][name]
    assert cache["build-system"] == service["build-system"]


def test_the_suite_can_be_run_from_the_sdist(built: Path) -> None:
    """All that the tests read is in it, and nothing that a build or a test run left behind."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}

    assert {
        *(
            "LICENSE",
            "CHANGELOG.md",
            "README.md",
            "Makefile",
            "pyproject.toml",
            "requirements.lock",
            ".env.example",
        ),
        *("gunicorn.conf.py", "wsgi.py", "docs/embedding.md", "monitoring/alerts.yml"),
        *("tests/conftest.py", "faults/__main__.py", "benchmarks/__main__.py"),
    } <= names
    assert not [
        name for name in names if name.startswith((".venv", ".git/", ".coverage")) or "__pycache__" in name
    ]


def test_the_changelog_tells_of_this_version() -> None:
    """The newest release in it is the package's version, with a date and a link to what has changed."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)[0]

    assert newest == servease_appt.__version__
    assert f"\n[{newest}]: https://" in changelog


def build(project: Path, folder: Path, *targets: str) -> None:
    """Build targets of a project into a folder."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    for target in targets:
        command += ["--target", target]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def plain_install(wheel: Path, folder: Path) -> Path:
    """Install the wheel into a new environment; the dependencies are links to what is installed here.

    Returns:
        The environment's interpreter.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], capture_output=True, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (ours,) = distributions(path=[str(packages)])
    for dependency in required(ours):
        for name in {file.parts[0] for file in dependency.files or ()} - {"..", "__pycache__"}:
            (packages / name).symlink_to(str(dependency.locate_file(name)))
    return python


def required(package: Distribution) -> Iterator[Distribution]:
    """Yield what a distribution requires without its extras, and what that requires, each once."""
    to_do = [(text, "") for text in package.requires or ()]
    seen = set()
    while to_do:
        text, extra = to_do.pop()
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        found = distribution(name)
        if name not in seen:
            seen.add(name)
            yield found
        to_do += [(text, extra) for extra in requirement.extras or {""} for text in found.requires or ()]
