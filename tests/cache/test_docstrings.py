"""The examples in the docstrings of the public API run, and every public name explains itself."""

import doctest
import importlib
import inspect

import pytest

import servease_appt.cache

MODULES = (
    "", ".cached_function", ".codecs", ".errors", ".lifetimes", ".loaders", ".policy", ".redis_client", ".results",
    ".shortcuts", ".stats", ".tags", ".two_tier",
)  # fmt: skip
WITHOUT_EXAMPLE = {"CacheError", "Event", "Mode", "NoValue", "Observer", "Recorder", "Source", "Tier"}
"""Enumerations, protocols and a base class, which there is nothing to show of."""


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name: str, redis_url: str) -> None:
    """Each does what it says, on a real server."""
    module = importlib.import_module(f"servease_appt.cache{name}")
    public = {name: getattr(servease_appt.cache, name) for name in servease_appt.cache.__all__}
    result = doctest.testmod(module, extraglobs={**public, "url": redis_url})
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(set(servease_appt.cache.__all__) - WITHOUT_EXAMPLE))
def test_each_public_name_has_an_example(name: str) -> None:
    """A reader sees how it is used."""
    assert "Example:" in (inspect.getdoc(getattr(servease_appt.cache, name)) or "")
