"""Which versions of the tables there are, known without the migrations' machinery."""

from pathlib import Path
from typing import Final

VERSION_TABLE: Final = "appointment_service_alembic_version"
"""Of our own, since a host application may keep its versions in the same database."""

_FILES: Final = (Path(__file__).parent / "migrations" / "versions").glob("v*_*.py")
VERSIONS: Final = tuple(
    sorted((file.name.partition("_")[0] for file in _FILES), key=lambda version: int(version[1:]))
)
"""Oldest first; the last is what this code needs. A database of a version not among them is newer, which does no
harm: tables are upgraded before the code that needs them."""
