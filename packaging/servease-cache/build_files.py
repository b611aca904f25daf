"""Take the files of `servease-cache` from the repository, or from the sdist that was built from it."""

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
VERSION_FILE = "servease_appt/__init__.py"
LICENSE = "LICENSE"
FILES = ("servease_appt/cache", "servease_appt/py.typed", VERSION_FILE, LICENSE)


def source(file: str) -> Path:
    """Return the path of a file: in this folder in an sdist, else in the repository."""
    here = HERE / file
    return here if here.exists() else HERE.parents[1] / file


def version() -> str:
    """Return the version, which is the service's."""
    found = re.search(
        r'^__version__ = "(.+)"$', source(VERSION_FILE).read_text(encoding="utf-8"), re.MULTILINE
    )
    if not found:
        raise ValueError(f"{VERSION_FILE} has no version")
    return found[1]


class Files(BuildHookInterface[Any]):
    """Adds the files to a wheel or an sdist."""

    def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
        """Map each file to its place in the archive. Called by hatchling.

        A wheel has `servease_appt` without an `__init__.py`, as a namespace package, and the marker of its types
        where type checkers look for that of such a package.
        """
        included: dict[str, str] = build_data["force_include"]
        if self.target_name == "sdist":
            included.update({str(source(file)): file for file in FILES})
            return
        included[str(source("servease_appt/cache"))] = "servease_appt/cache"
        included[str(source("servease_appt/py.typed"))] = "servease_appt/cache/py.typed"
        if not (HERE / LICENSE).exists():  # from an sdist, hatchling takes it by itself
            included[str(source(LICENSE))] = f"servease_cache-{version()}.dist-info/licenses/{LICENSE}"
