"""Servers that several modules here use."""

from collections.abc import Iterator

import pytest

from tests.db.replicated import Replicated, replicated


@pytest.fixture(scope="package")
def servers() -> Iterator[Replicated]:
    """A primary and its streaming replica; a test that stops one starts it again."""
    with replicated() as servers:
        servers.on_primary("CREATE TABLE written (id text)")
        yield servers
