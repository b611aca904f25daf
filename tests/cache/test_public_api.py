"""What the package offers, and what it does not drag in."""

import subprocess
import sys

import servease_appt.cache


def test_the_public_names_are_these() -> None:
    """A name that is added or goes is a decision, and this test is where it is seen."""
    assert sorted(servease_appt.cache.__all__) == [
        "CacheError",
        "CachePolicy",
        "CacheUnavailable",
        "Codec",
        "Event",
        "LoadDenied",
        "Lookup",
        "Mode",
        "Observer",
        "Recorder",
        "Source",
        "Stats",
        "Tier",
        "TwoTierCache",
        "ValueNotFound",
        "connect",
        "json_codec",
    ]
    for name in servease_appt.cache.__all__:
        assert getattr(servease_appt.cache, name).__doc__


def test_it_stands_alone() -> None:
    """`import servease_appt.cache` needs the standard library, cachetools and redis, and starts nothing."""
    code = """
import sys, threading
# What the interpreter imports at its start, such as a distribution's sitecustomize, does not count.
before = set(sys.modules)
import servease_appt.cache
dragged_in = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(sorted(name for name in dragged_in if not name.startswith("_")), threading.active_count())
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    found, threads = answer.rsplit(maxsplit=1)
    allowed = {"cachetools", "redis", "servease_appt"}
    for name in ("flask", "sqlalchemy", "requests", "marshmallow", "psycopg2", "orjson", "werkzeug"):
        assert f"'{name}'" not in found
    assert {name.strip("'") for name in found.strip("[]").split(", ")} <= allowed | {"hiredis", "jwt"}
    assert threads == "1"
