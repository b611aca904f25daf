"""Ask for known vulnerabilities of what the locks install: `python -m tools.audit`, as `make audit` does.

pip-audit ends with 0 also where it has learned nothing, for instance behind a mirror of PyPI that has no
vulnerability data. So its report is read here, and a package without an answer is not called free of findings.

Exit codes: 0 nothing is known against any package; 1 there are vulnerabilities; 2 there was no data for some.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
TIMEOUT_S = 300
FINDINGS, NO_DATA = 1, 2


def main() -> int:
    """Audit each lock; return the exit code."""
    worst = 0
    for lock in LOCKS:
        code, lines = judge(lock, _report(lock))
        print(*lines, sep="\n")
        worst = code if worst == 0 or code == FINDINGS else worst
    return worst


def judge(lock: str, report: dict[str, Any] | None) -> tuple[int, list[str]]:
    """Return the exit code for one lock and what is to be said.

    Args:
        lock: its name.
        report: pip-audit's report; None where it gave none.
    """
    if report is None:
        return NO_DATA, [f"{lock}: NO DATA. pip-audit got no answer, so nothing can be said of any package."]
    packages = report["dependencies"]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    found = [
        f"{lock}: {package['name']} {package['version']} has {vulnerability['id']}, mended in"
        f" {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in packages
        for vulnerability in package.get("vulns", [])
    ]
    lines = list(found)
    if not found and len(unknown) < len(packages):
        lines = [f"{lock}: {len(packages) - len(unknown)} of {len(packages)} packages have no finding."]
    if unknown:
        lines.append(
            f"{lock}: NO DATA for {len(unknown)} of {len(packages)} packages, so nothing can be said of them:"
            f" {', '.join(unknown)}"
        )
    return FINDINGS if found else NO_DATA if unknown else 0, lines


def _report(lock: str) -> dict[str, Any] | None:
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / lock), "--require-hashes"]
    options = ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        report: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return report


if __name__ == "__main__":
    sys.exit(main())
