"""docs/races.md names tests that exist, and each race once."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "races.md").read_text("utf-8")
NODES = re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)+)`", PAGE)


def test_each_race_is_there_once() -> None:
    """R1 to R20, in order."""
    assert re.findall(r"^\*\*R(\d+)\.", PAGE, re.MULTILINE) == [str(n) for n in range(1, 21)]


def test_each_race_has_a_test() -> None:
    """No race is only written about."""
    for race in re.split(r"^\*\*R", PAGE, flags=re.MULTILINE)[1:]:
        assert "::test_" in race, race


@pytest.mark.parametrize(("path", "names"), NODES, ids=[names for _, names in NODES])
def test_the_named_tests_exist(path: str, names: str) -> None:
    """Each is where the page says."""
    found: object = import_module(path.removesuffix(".py").replace("/", "."))
    for name in names.removeprefix("::").split("::"):
        found = getattr(found, name)
    assert callable(found)
