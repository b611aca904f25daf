"""The service under gunicorn, and its document in a folder with the tools that read it."""

from pathlib import Path

import pytest

from tests.support.served import Served
from tests.support.service_fixtures import no_other_workers, served

__all__ = ["document_folder", "no_other_workers", "served"]


@pytest.fixture
def document_folder(served: Served, tmp_path: Path) -> Path:
    """A folder with the document that the service serves, as `openapi.json`."""
    answer = served.get("/api/v1/openapi.json", bearer=None)
    assert answer.status == 200
    (tmp_path / "openapi.json").write_bytes(answer.body)
    return tmp_path
