"""The Python in the documents, run as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from servease_appt.container import EXTENSION

ROOT = Path(__file__).parents[1]
EMBEDDING = ROOT / "docs" / "embedding.md"
CACHE = ROOT / "docs" / "cache.md"
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
REDIS = "redis://localhost:6379/1"
POSTGRES = "localhost/appointments"


def run_section(
    title: str, redis_url: str, postgres_url: str = "", document: Path = EMBEDDING
) -> dict[str, Any]:
    """Run all blocks of one section, one after the other, and return what they have defined."""
    _, found, rest = document.read_text("utf-8").partition(f"\n## {title}\n")
    assert found, f"there is no section {title} any more"
    names: dict[str, Any] = {"__name__": "embedding"}
    blocks = BLOCK.findall(rest.partition("\n## ")[0])
    assert blocks
    for block in blocks:
        code = block.replace(REDIS, redis_url).replace(POSTGRES, postgres_url.partition("://")[2])
        exec(compile(code, str(document), "exec"), names)  # noqa: S102 - our own text
    return names


def test_the_whole_service(
    redis_url: str, migrated_postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """All blocks run, in this order; gates, blueprint, dashboard and signals do what the text says."""
    names = run_section("The whole service in a Flask application", redis_url, migrated_postgres_url)
    apps: list[Flask] = [names[name] for name in ("app", "office", "shop")]
    client = names["client"]
    customer = "bcee5755-2c9f-4c0a-8720-1592b75edf96"
    try:
        assert capsys.readouterr().out == "Unknown\n"
        headers = {"Authorization": f"Bearer {names['token']}"}
        body = {"entity": "customer", "ids": [customer]}
        assert client.post("/garage/api/cache/invalidate/", json=body, headers=headers).status_code == 200
        assert names["heard"][-1] == ("customer", (customer,))
        assert client.get("/elsewhere").headers["Location"] == "/login"
        assert apps[1].test_client().get("/back-room/api/health").status_code == 200
        assert apps[2].test_client().get("/garage/api/ops/cache/").status_code == 200
        listed = apps[2].test_client().get("/garage/api/appointments/", headers=headers)
        assert listed.get_json()["count"] == 0
    finally:
        for app in apps:
            app.extensions[EXTENSION].close()
        with apps[2].app_context():
            names["db"].engine.dispose()


def test_the_backend(redis_url: str) -> None:
    """A cached view runs once, and its backend is the one that the setting names."""
    names = run_section("A backend of Flask-Caching", redis_url)
    client = names["app"].test_client()
    try:
        assert client.get("/prices/oil").text == "oil: 30"
        names["price_of"] = lambda _kind: 0
        assert client.get("/prices/oil").text == "oil: 30"
    finally:
        for app, cache in (("app", "cache"), ("reports", "runs_once")):
            names[app].extensions["cache"][names[cache]].close()


def titles_with_code(document: Path) -> list[str]:
    """Return the titles of the sections that have blocks of Python."""
    sections = document.read_text("utf-8").split("\n## ")[1:]
    return [section.partition("\n")[0] for section in sections if BLOCK.search(section)]


@pytest.mark.parametrize("title", titles_with_code(CACHE))
def test_the_cache_as_a_library(title: str, redis_url: str) -> None:
    """The blocks check themselves."""
    run_section(title, redis_url, document=CACHE)


def test_the_readme_embeds_the_service_and_the_backend(redis_url: str, migrated_postgres_url: str) -> None:
    """Both blocks run in one application, which then has the API and a cache in two tiers."""
    names = run_section("Embedding it", redis_url, migrated_postgres_url, README)
    app, cache = names["app"], names["cache"]
    try:
        assert app.test_client().get("/garage/api/health/").status_code == 200
        with app.app_context():
            cache.set("a", 1)
            assert cache.get("a") == 1
    finally:
        app.extensions["cache"][cache].close()
        app.extensions[EXTENSION].close()


def test_the_readme_uses_the_cache_alone(redis_url: str) -> None:
    """What the loader returned is what `get` returns."""
    names = run_section("The cache alone", redis_url, document=README)
    assert names["customer"] == {"name": "the customer of customer_42"}


def test_the_tutorial(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line that is printed is the one that the comment beside it says."""
    expected = re.findall(r"^print\(.*\)  # (.+)$", TUTORIAL.read_text("utf-8"), re.MULTILINE)
    run_section("Step by step", redis_url, document=TUTORIAL)
    assert capsys.readouterr().out.splitlines() == expected


def test_every_block_of_python_is_in_a_section_that_is_run() -> None:
    """A block elsewhere would be run by nothing."""
    run = {README: 2, EMBEDDING: 2, TUTORIAL: 1, CACHE: len(titles_with_code(CACHE))}
    for document in (README, *(ROOT / "docs").rglob("*.md")):
        parts = document.read_text("utf-8").split("\n## ")
        assert len([part for part in parts if BLOCK.search(part)]) == run.get(document, 0), document
