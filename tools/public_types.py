"""Check that the types of a package's public API are known in full: `python -m tools.public_types PACKAGE...`

`pyright --verifytypes` alone can't be the check. It counts every module below a package as public and has no
option to look at `__all__` only, so it asks for the same of our internal modules and of adapters to untyped
libraries; its exit code is 0 only at 100 % of all that; and unless its output is JSON it asks PyPI for a newer
pyright first. This reads its JSON and requires 100 % of the names in each package's `__all__`: pyright calls a
class known only if its public members are known, and all classes that they mention.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def unknown_names(package: str) -> tuple[list[str], list[str]]:
    """Return the names of `package.__all__` whose types are not known in full, and what pyright says of them.

    The second list also has what it says of modules that are not public: the cause may be in one of these.
    """
    symbols = _verify(package)
    # pyright leaves names such as __version__ out.
    public = [name for name in importlib.import_module(package).__all__ if not name.startswith("__")]
    unknown = [name for name in public if not symbols.get(f"{package}.{name}", {}).get("isTypeKnown")]
    if not unknown:
        return [], []
    reasons = [
        f"{name}: {diagnostic['message']}"
        for name, symbol in symbols.items()
        if not symbol["isTypeKnown"]
        for diagnostic in symbol["diagnostics"]
    ]
    return unknown, reasons


def _verify(package: str) -> dict[str, dict[str, Any]]:
    """Return what pyright says of each symbol of the package, by the symbol's full name."""
    command = [sys.executable, "-m", "pyright", "--verifytypes", package, "--ignoreexternal", "--outputjson"]
    # pyright does not follow the .pth file of an editable install.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # Its exit code is 1 whenever anything is unknown. The node that it runs on is a wheel, beside it in the
    # environment, so nothing is downloaded.
    done = subprocess.run(
        [*command, "--pythonpath", sys.executable],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        symbols = {
            symbol["name"]: symbol for symbol in json.loads(done.stdout)["typeCompleteness"]["symbols"]
        }
    except (ValueError, KeyError):
        symbols = {}
    return symbols or sys.exit(f"pyright could not look at {package}:\n{done.stdout}{done.stderr}")


def main(packages: list[str]) -> int:
    """Check the packages; return the exit code."""
    failed = False
    for package in packages:
        unknown, reasons = unknown_names(package)
        if unknown:
            failed = True
            print(f"{package}: the types of {', '.join(unknown)} are not known in full:")
            print("\n".join(reasons))
        else:
            print(f"{package}: the types of its public API are known in full")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
