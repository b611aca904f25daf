"""The examples in docstrings, run as they stand."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["app", "db.alembic_filter", "extension", "masking", "signals"])
def test_examples_run(name: str) -> None:
    """Each prints what it says; none needs a server."""
    module = import_module(f"servease_appt.{name}")

    result = doctest.testmod(module)

    assert result.attempted
    assert not result.failed
