"""What `python -m benchmarks.postgres` has measured is what the document says."""

import json

from benchmarks.postgres import tables
from benchmarks.results import DIRECTORY


def test_the_document_has_the_measured_tables_of_postgresql() -> None:
    """Both parts, with where and when they were measured."""
    results = json.loads((DIRECTORY / "postgres" / "measured.json").read_text("utf-8"))
    assert results.keys() == {"pooler", "replica"}
    document = tables.DOCUMENT.read_text("utf-8")
    for part in results:
        assert tables.of_part(part, results) in document
