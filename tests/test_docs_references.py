"""Whatever the documents name exists: links, files, tests, commands, make targets, settings."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import flask_caching
import pytest

from servease_appt.cache import messages
from servease_appt.environment import Environment
from servease_appt.extension import COMMANDS
from tests.support.dataset import new_id
from tools.links import REPOSITORY

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if path.relative_to(ROOT).parts[0] in {"docs", "examples", "packaging"} or path.parent == ROOT
)
SOURCES = ("servease_appt", "tests", "benchmarks", "faults", "tools", "deploy", "examples", ".github")
FOLDERS = (ROOT, ROOT / "servease_appt", ROOT / "servease_appt" / "cache", ROOT / "docs", ROOT / "tests")

CODE = re.compile(r"^```[a-z]*\n(.*?)^```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]+)\)")
OWN_LINK = re.compile(re.escape(REPOSITORY) + r"/(?:blob|tree|raw)/main/([^)\s#]+)(?:#([^)\s]+))?")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FILE = re.compile(
    r"(?<![\w./<{:~-])((?:[\w.-]+/)+[\w.-]*\.(?:py|md|lua|toml|ya?ml|json|lock|conf|m?js|ts|svg|acl|sh)\b)(?:::(\w+))?"
)
MAKE = re.compile(r"(?:^|\s)make ((?:[a-z][a-z-]*\b ?)+)(?![=/])", re.MULTILINE)
FLASK = re.compile(r"\b(?:flask (?:--app \w+ )?(?:servease )?|servease )((?:cache|db|slots)\b[^\n|;&#]*)")
PUBLISH = re.compile(r"^PUBLISH (\S+) (\S.*)$", re.MULTILINE)
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b")


def name_of(path: Path) -> str:
    """Return a document's name for the test's id."""
    return path.relative_to(ROOT).as_posix()


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)


def code_in(document: Path) -> Iterator[str]:
    """Yield the code blocks and the words between backticks of a document."""
    for block, word in CODE.findall(document.read_text("utf-8")):
        yield block or word


def anchors_of(document: Path) -> set[str]:
    """Return the anchors that GitHub gives to a document's headings."""
    headings = HEADING.findall(FENCED.sub("", document.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    """Each relative link names a file or folder, and each anchor a heading in it."""
    broken = []
    for link in LINK.findall(FENCED.sub("", document.read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


@each_document
def test_links_to_this_repository_lead_somewhere(document: Path) -> None:
    """Each address of a file or folder at the repository's host names one that exists."""
    broken = []
    for path, anchor in OWN_LINK.findall(document.read_text("utf-8")):
        target = ROOT / path
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(path)
    assert broken == []


@each_document
def test_files_and_tests_exist(document: Path) -> None:
    """Each path in code, such as `cache/l1.py` or `tests/x.py::test_y`, is a file that holds that name."""
    missing = []
    for code in code_in(document):
        for path, name in FILE.findall(code):
            found = [folder / path for folder in FOLDERS if (folder / path).is_file()]
            if not found or (name and not re.search(rf"\b(def|class) {name}\b", found[0].read_text("utf-8"))):
                missing.append(f"{path}::{name}" if name else path)
    assert missing == []


@pytest.fixture(scope="module")
def all_names() -> set[str]:
    """Return the names of all files, and the paths of all folders, that the documents may name."""
    paths = [path for folder in (*SOURCES, "docs") for path in (ROOT / folder).rglob("*")] + list(
        ROOT.iterdir()
    )
    folders = {f"{path.relative_to(ROOT).as_posix()}/" for path in paths if path.is_dir()}
    return folders | {path.name for path in paths}


@each_document
def test_folders_and_bare_names_of_files_exist(document: Path, all_names: set[str]) -> None:
    """Each folder between backticks, such as `api/`, exists, and so does a file of each name such as `l1.py`."""
    words = set(code_in(document)) - {"env.py"}  # Alembic's, in a host
    files = {word for word in words if re.fullmatch(r"\w+\.(?:py|lua|mjs)", word)}
    folders = {word for word in words if re.fullmatch(r"(?:[\w-]+/)+", word)}
    unknown = {word for word in folders if not any(f"/{name}".endswith(f"/{word}") for name in all_names)}
    assert (files - all_names) | unknown == set()


@each_document
def test_make_targets_exist(document: Path) -> None:
    """Each `make TARGET` in code is a rule of the Makefile."""
    rules = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {word for code in code_in(document) for words in MAKE.findall(code) for word in words.split()}
    assert named - rules == set()


@each_document
def test_commands_exist(document: Path) -> None:
    """Each `flask … cache doctor` in code is a command of ours, and has the options that are named."""
    unknown = [line for code in code_in(document) for line in FLASK.findall(code) if not is_command(line)]
    assert unknown == []


def is_command(line: str) -> bool:
    """Say whether a line such as `cache invalidate customer UUID --json` begins with a command of ours."""
    group_name, *words = line.split()
    group = next(group for group in COMMANDS if group.name == group_name)
    words = [word.strip("…[]()'\".,:") for word in words]
    if not words or not words[0] or words[0] == "--help":
        return True
    command = group.get_command(click.Context(group), words[0])
    if command is None:
        return False
    options = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    named = {word.partition("=")[0] for word in words if word.startswith("--")}
    return named <= options | {"--help"}


@each_document
def test_published_messages_are_understood(document: Path) -> None:
    """Each `PUBLISH CHANNEL MESSAGE` in code names our channel and a message of a form that workers read."""
    for code in code_in(document):
        for channel, message in PUBLISH.findall(code):
            assert channel == "appointment_service:invalidate"
            plain = message.strip().strip("'").replace("…", new_id())
            assert messages.decode(plain.encode(), "appointment_service").unreadable == 0


@pytest.fixture(scope="module")
def variables_of_the_sources() -> set[str]:
    """Return every word in capitals that a file other than a document holds, and Flask-Caching's settings."""
    files = [
        path for name in SOURCES for path in (ROOT / name).rglob("*") if path.suffix not in {".md", ".svg"}
    ]
    files += [path for path in ROOT.iterdir() if path.is_file() and path.suffix not in {".md", ".lock"}]
    files = [path for path in files if path.is_file() and "__pycache__" not in path.parts]
    found = {word for path in files for word in VARIABLE.findall(path.read_text("utf-8", errors="ignore"))}
    return found | set(Environment.NAMES) | set(VARIABLE.findall(inspect.getsource(flask_caching)))


@each_document
def test_variables_exist(document: Path, variables_of_the_sources: set[str]) -> None:
    """Each name in capitals, such as an environment variable, is one that the sources know."""
    if document.name == "CHANGELOG.md":
        return  # it names what was removed, too
    named = {word for code in code_in(document) for word in VARIABLE.findall(code)}
    unknown = {name for name in named if name.removeprefix("SERVEASE_") not in variables_of_the_sources}
    assert unknown == set()


def test_the_readme_has_every_setting_with_its_default() -> None:
    """Its table and the declarations name the same variables with the same defaults."""
    text = (ROOT / "README.md").read_text("utf-8")
    table = text.partition("| variable | default | meaning |\n| --- | --- | --- |\n")[2].partition("\n\n")[0]
    documented: dict[str, str] = {}
    for row in table.splitlines():
        names, defaults, _ = (cell.strip() for cell in row.strip("|").split("|", 2))
        documented.update(zip(names.split(", "), defaults.split(", "), strict=False))
    declared = {f"`{name}`": default_of(field) for name, field in Environment.NAMES.items()}
    assert {name: as_number(text) for name, text in documented.items()} == declared


def default_of(field: str) -> object:
    """Return the default of a setting as the table writes it."""
    default = Environment().fields[field].load_default
    if Environment().fields[field].required or default in (None, "", ()):
        return "none"
    if isinstance(default, (bool, int, float)):
        return float(default)
    return str(default)


def as_number(cell: str) -> object:
    """Return what a cell says, numbers as numbers."""
    text = cell.strip("`")
    try:
        return float(text)
    except ValueError:
        return text


def test_the_figures_of_the_readme_are_those_of_the_measurement() -> None:
    """Each ratio and time of its table is in the table of docs/performance.md."""
    readme = (ROOT / "README.md").read_text("utf-8")
    measured = (ROOT / "docs" / "performance.md").read_text("utf-8")
    shown = readme.partition("## How fast it is\n")[2].partition("\n## ")[0]
    table = measured.partition("## Aims and results\n")[2].partition("\nWhy ")[0]
    figure = re.compile(r"(\d[\d.]*(?: to \d[\d.]*)?) (?:×|ms|times)")
    figures = [cell for row in shown.splitlines() for cell in figure.findall(row.rpartition("| ")[2])]
    assert len(figures) > 8
    assert set(figures) - set(figure.findall(table)) == set()


def test_the_map_of_the_cache_names_each_file_once() -> None:
    """A file that was moved or added is in the map; the names in the row of `l2/` are of its files."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = text.partition("Inside `cache/`:")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    named = [
        name for files, job in rows for name in re.findall(r"`(\w+\.py)`", files + job * ("`l2/`" in files))
    ]
    cache = ROOT / "servease_appt" / "cache"
    there = [path.name for folder in (cache, cache / "l2") for path in folder.glob("[!_]*.py")]
    assert sorted(named) == sorted(there)


def test_the_functions_of_the_traces_exist() -> None:
    """A name such as `cache/l1.invalidate` is a function of that module, or a method of a class there."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    traces = text.partition("## Three traces")[2].partition("\n## ")[0]
    found = re.findall(r"`((?:\w+/)+\w+)\.(\w+)`", traces)
    assert len(found) > 8
    for module, function in found:
        source = (ROOT / "servease_appt" / f"{module}.py").read_text("utf-8")
        assert re.search(rf"^ *def {function}\(", source, re.MULTILINE), f"{module}.{function}"
