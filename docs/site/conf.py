"""Sphinx's configuration: the site that `make docs` builds from docs/ and the docstrings."""

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

import servease_appt

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/servease/appointment-service"

project = "ServEase appointments"
author = "The ServEase developers"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's name for it
version = release = servease_appt.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 4
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"{project} {release}"
html_theme_options = {"source_repository": REPOSITORY, "source_branch": "main", "source_directory": "docs/"}

# A link to a file or folder outside of docs/, but for pictures, which Sphinx copies.
_OUTSIDE = re.compile(r"(?<!!)(\[[^\]]*\]\()\.\./([^)#\s]*)")


log = logging.getLogger(__name__)


def link_to_repository(_app: Sphinx, document: str, source: list[str]) -> None:
    """Turn links that leave docs/ into links to the repository; warn of a missing target."""

    def absolute(link: re.Match[str]) -> str:
        path = ROOT / link[2]
        if not path.exists():
            log.warning("%s does not exist", link[2], location=document)
        return f"{link[1]}{REPOSITORY}/{'tree' if path.is_dir() else 'blob'}/main/{link[2]}"

    source[0] = _OUTSIDE.sub(absolute, source[0])


def setup(app: Sphinx) -> None:
    """Register the hook."""
    app.connect("source-read", link_to_repository)
