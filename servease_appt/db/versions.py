"""The versions of the tables, without importing Alembic."""

from pathlib import Path
from typing import Final

VERSION_TABLE: Final = "appointment_service_alembic_version"
"""A separate table, since a host application may keep its own versions in the same database."""

_FILES: Final = (Path(__file__).parent / "migrations" / "versions").glob("v*_*.py")
VERSIONS: Final = tuple(
    sorted((file.name.partition("_")[0] for file in _FILES), key=lambda version: int(version[1:]))
)
"""Oldest first; this code needs the last. A database with an unknown version is newer, which is harmless: tables
are upgraded before the code that needs them."""
