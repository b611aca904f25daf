"""The code of released versions, kept as archives: a checkout need not have the history that they are from."""

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
REPOSITORY: Final = HERE.parents[1]
COMMITS: Final = {"0.1.0": "ab9e263411db", "0.2.0": "d3eb38483683"}
"""Each released version, oldest first, and the commit that its archive is from."""

_SERVED: Final = ("servease_appt", "wsgi.py", "gunicorn.conf.py")
_NOT_SERVED: Final = ("servease_appt/demo", "servease_appt/testing")


def keep(version: str) -> None:
    """Write the archive of a version from the repository's history: what serves, without tests and demo."""
    command = ["git", "archive", "--format=tar", COMMITS[version], *_SERVED]
    whole = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, timeout=60).stdout
    with tarfile.open(fileobj=io.BytesIO(whole)) as source, tarfile.open(_archive(version), "w:xz") as kept:
        for member in source:
            if not member.name.startswith(_NOT_SERVED):
                kept.addfile(member, source.extractfile(member) if member.isfile() else None)


def unpack(version: str, directory: Path) -> Path:
    """Unpack the code of a version. Returns the folder from which it can be served."""
    target = directory / f"servease-{version}"
    with tarfile.open(_archive(version)) as kept:
        kept.extractall(target, filter="data")
    return target


def recording(version: str) -> Path:
    """Return the file with what a version wrote to Redis, PostgreSQL and its clients."""
    return HERE / "recorded" / f"{version}.json"


def _archive(version: str) -> Path:
    return HERE / "released" / f"{version}.tar.xz"
