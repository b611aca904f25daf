"""The Python in the documents, run as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from servease_appt.container import EXTENSION

EMBEDDING = Path(__file__).parents[1] / "docs" / "embedding.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
REDIS = "redis://localhost:6379/1"


def run_section(title: str, redis_url: str) -> dict[str, Any]:
    """Run all blocks of one section, one after the other, and return what they have defined."""
    _, found, rest = EMBEDDING.read_text("utf-8").partition(f"\n## {title}\n")
    assert found, f"there is no section {title} any more"
    names: dict[str, Any] = {"__name__": "embedding"}
    blocks = BLOCK.findall(rest.partition("\n## ")[0])
    assert blocks
    for block in blocks:
        exec(compile(block.replace(REDIS, redis_url), str(EMBEDDING), "exec"), names)  # noqa: S102 - our own text
    return names


def test_the_whole_service(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is installed with these settings, under that prefix; without services a name is the placeholder."""
    names = run_section("The whole service in a Flask application", redis_url)
    app: Flask = names["app"]
    try:
        assert app.test_client().get("/garage/api/health/").status_code == 200
        assert app.test_client().get("/garage/api/appointments/").status_code == 401
        assert capsys.readouterr().out == "Unknown\n"
        assert names["container"] is app.extensions[EXTENSION]
    finally:
        names["container"].close()


def test_the_backend(redis_url: str) -> None:
    """A cached view runs once, and its backend is the one that the setting names."""
    names = run_section("A backend of Flask-Caching", redis_url)
    client = names["app"].test_client()
    try:
        assert client.get("/prices/oil").text == "oil: 30"
        names["price_of"] = lambda _kind: 0
        assert client.get("/prices/oil").text == "oil: 30"
    finally:
        names["app"].extensions["cache"][names["cache"]].tiers.close()


def test_the_cache_alone(redis_url: str) -> None:
    """The block checks itself."""
    run_section("The cache alone", redis_url)
