"""Mutation tests of the cache's protocol, for a limited time: `python -m tools.cache_mutation [MODULE...]`

`make mutation` covers the parts that need no server. The modules here are tested on real servers, which takes
seconds for one mutant, so a night has not enough time for all: each night begins with another module. Each module
is run in a copy of the sources, since mutmut reads its configuration from the folder that it runs in.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "cache-mutation"
COPIED = ("servease_appt", "tests", "faults", "gunicorn.conf.py", "wsgi.py")
RACES = ("races", "races_channel", "races_page")
TESTS: dict[str, tuple[str, ...]] = {
    "recovery": (
        *("server_changes", "lost_writes", "faults", "outage_cost", "races_channel", "channel"),
        *("replication", "sentinel_primary"),
    ),
    "keeping": ("odd_values", "small_protections", "invalidation", *RACES),
    "invalidation": (
        *("invalidation", "small_protections", "callbacks", "plain_requests", "replication"),
        *RACES,
    ),
    "sentinel": ("sentinel", "sentinel_primary", "replication"),
    "plain_requests": ("plain_requests", "invalidation", "races_channel"),
    "batch_load": ("loading", "takeover", "loaders", "unusual_loaders", "single_flight", *RACES),
    "loading": ("loading", "load_threads", "loaders", "unusual_loaders", "takeover", *RACES),
    "direct": ("lost_writes", "small_protections", "flask_caching_writes", "races"),
    "reading": ("reading", "loading", "server_changes", *RACES),
    "listener": ("channel", "messages", "callbacks", "races_channel", "server_changes", "faults"),
    "group_commit": ("parts", "loading", "callbacks"),
    "refresh": ("parts", "reading"),
    "breaker": ("parts", "outage_cost", "faults"),
    "codecs": ("parts", "odd_values"),
}
"""For each module the tests (`tests/cache/test_….py`) that are to find its mutants."""
CHECKED = ("killed", "timeout", "survived", "suspicious", "segfault", "no tests")
LEFT = ("survived", "suspicious", "no tests")


def main() -> int:
    """Run what there is time for and print what is left. Returns 0, or 2 if no mutant could be checked."""
    given = _arguments()
    end_s = time.monotonic() + 60 * given.minutes
    total: Counter[str] = Counter()
    for module in given.modules or _of_tonight():
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            break
        results = _run(module, left_s, given.children)
        counts = Counter(results.values())
        total += counts
        print(f"{module}: {_text(counts)}", flush=True)
        for name in sorted(name for name, result in results.items() if result in LEFT):
            print(f"    {name}: {results[name]}", flush=True)
    print(f"all: {_text(total)}")
    return 0 if any(total[result] for result in CHECKED) else 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.cache_mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", choices=[*TESTS], help=", ".join(TESTS))
    parser.add_argument("--minutes", type=float, default=60.0, metavar="N", help="for all of them (60)")
    parser.add_argument("--children", type=int, default=2, metavar="N", help="mutants at once (2)")
    return parser.parse_args()


def _of_tonight() -> list[str]:
    """Return all modules, beginning with another one each day."""
    names = list(TESTS)
    first = datetime.now(UTC).date().toordinal() % len(names)
    return names[first:] + names[:first]


def _run(module: str, limit_s: float, children: int) -> dict[str, str]:
    """Check the mutants of one module. Returns the result of each, but of those for which there was no time."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, WORK / name)
    _configure(module)
    mutmut = str(Path(sys.executable).with_name("mutmut"))
    command = [mutmut, "run", "--max-children", str(children), f"servease_appt.cache.{module}.*"]
    with (
        (WORK / "log").open("w") as log,
        subprocess.Popen(command, cwd=WORK, stdout=log, stderr=log) as running,
    ):
        try:
            running.wait(limit_s)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
    found = subprocess.run(
        [mutmut, "results", "--all", "True"], cwd=WORK, capture_output=True, text=True, check=False
    ).stdout
    lines = (line.strip().rpartition(": ") for line in found.splitlines())
    results = {name: result for name, _, result in lines if result in CHECKED}
    if not results:
        print((WORK / "log").read_text()[-2000:], file=sys.stderr)
    return results


def _configure(module: str) -> None:
    """Write mutmut's settings, with pytest's own from the project."""
    tests = [f"tests/cache/test_{name}.py" for name in TESTS[module]]
    project = (ROOT / "pyproject.toml").read_text()
    before, _, rest = project.partition("[tool.mutmut]\n")
    _, _, after = rest.partition("\n[")
    settings = {
        "source_paths": ["servease_appt"],
        "only_mutate": [f"servease_appt/cache/{module}.py"],
        "pytest_add_cli_args_test_selection": tests,
        "also_copy": ["tests", "faults"],
    }
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    (WORK / "pyproject.toml").write_text(f"{before}[tool.mutmut]\n{lines}\n\n[{after}")


def _text(counts: Counter[str]) -> str:
    return (
        ", ".join(f"{counts[result]} {result}" for result in CHECKED if counts[result]) or "nothing checked"
    )


if __name__ == "__main__":
    sys.exit(main())
