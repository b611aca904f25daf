"""The nightly mutation tests of the cache name modules and tests that exist."""

import pytest

from tools.cache_mutation import ROOT, TESTS


@pytest.mark.parametrize("module", TESTS)
def test_the_module_and_its_tests_exist(module: str) -> None:
    """A module that has moved would be left out without a word."""
    assert (ROOT / "servease_appt" / "cache" / f"{module}.py").is_file()
    missing = [name for name in TESTS[module] if not (ROOT / f"tests/cache/test_{name}.py").is_file()]
    assert missing == []
