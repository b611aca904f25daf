"""The service's own application, which leaves out the names if a request wants that. For `make bench` only.

Pages with and without names come from one process, so that nothing else differs.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

from flask import Flask, request

from servease_appt.app import create_app
from servease_appt.container import EXTENSION, Container
from servease_appt.references.enrichment import Lookups, PageNames

HEADER = "X-Without-Names: yes"


class _NoTexts(dict[Any, str]):
    """Maps every id to an empty text."""

    def __missing__(self, _id: object) -> str:
        return ""


class _Nameless:
    """`Lookups` without lookups for a request that wants no names."""

    def __init__(self, lookups: Lookups) -> None:
        self._names = PageNames(_NoTexts(), _NoTexts(), _NoTexts(), "l1=0", 0.0, 0.0)
        self._lookups = lookups

    def page_names(self, *ids: Iterable[str], **more: Any) -> PageNames:
        """Return the names, or none."""
        if "X-Without-Names" in request.headers:
            return self._names
        return self._lookups.page_names(*ids, **more)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lookups, name)


def application() -> Flask:
    """Return the application with settings from the environment."""
    app = create_app()
    container: Container = app.extensions[EXTENSION]
    app.extensions[EXTENSION] = replace(container, lookups=cast("Lookups", _Nameless(container.lookups)))
    return app
