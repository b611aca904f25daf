"""The service's own application with one thing taken out: the names. For `make bench` alone."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

from flask import Flask

from servease_appt.app import create_app
from servease_appt.lookups import Lookups, PageNames
from servease_appt.services import EXTENSION, Services


class _NoTexts(dict[Any, str]):
    """Has an empty text for every id, without looking."""

    def __missing__(self, _id: object) -> str:
        return ""


class _Nameless:
    """Answers as `Lookups` does, without having looked anything up."""

    def __init__(self, lookups: Lookups) -> None:
        self._names = PageNames(_NoTexts(), _NoTexts(), _NoTexts(), "l1=0", 0.0, 0.0)
        self._lookups = lookups

    def page_names(self, *_ids: Iterable[str], **_more: Any) -> PageNames:
        """No names."""
        return self._names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lookups, name)


def application() -> Flask:
    """The application, settings read from the environment."""
    app = create_app()
    services: Services = app.extensions[EXTENSION]
    app.extensions[EXTENSION] = replace(services, lookups=cast("Lookups", _Nameless(services.lookups)))
    return app
