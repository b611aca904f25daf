"""Fixtures of these tests."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.support.service_fixtures import no_other_workers
from tests.upgrade.releases import unpack

__all__ = ["no_other_workers"]


@pytest.fixture(scope="session")
def code_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder with a released version's code, which is unpacked once."""
    directory = tmp_path_factory.mktemp("released")
    return cache(lambda version: unpack(version, directory))
