"""Nothing that the HTTP libraries raise gets past the clients."""

import http.client
from collections.abc import Iterator

import pytest
import requests.exceptions
import urllib3.exceptions

from servease_appt.clients.errors import UpstreamError
from servease_appt.clients.service import JsonService


def exceptions_of(module: object) -> Iterator[type[Exception]]:
    for member in vars(module).values():
        is_error = (
            isinstance(member, type) and issubclass(member, Exception) and not issubclass(member, Warning)
        )
        if is_error and member.__module__ == module.__name__:  # type: ignore[attr-defined] # it is a module
            yield member


LIBRARY_ERRORS = [
    *exceptions_of(requests.exceptions),
    *exceptions_of(urllib3.exceptions),
    ConnectionResetError,
    TimeoutError,
    http.client.IncompleteRead,
    UnicodeError,
]


def test_there_are_exceptions_to_map() -> None:
    """The list below is not empty by mistake."""
    assert requests.exceptions.ReadTimeout in LIBRARY_ERRORS
    assert urllib3.exceptions.ProtocolError in LIBRARY_ERRORS


@pytest.mark.parametrize("error", LIBRARY_ERRORS, ids=lambda error: f"{error.__module__}.{error.__name__}")
def test_each_is_mapped(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each exception that requests and urllib3 define comes out as one of ours, without its text."""
    service = JsonService("vehicle", "http://127.0.0.1:1", timeout_s=1, pool_size=1)
    raised = error.__new__(error, "canary")

    def send(*_: object, **__: object) -> object:
        raise raised

    monkeypatch.setattr(service, "_send", send)

    with pytest.raises(UpstreamError) as caught:
        service.get("/path/", "token", service.deadline(None))
    assert "canary" not in str(caught.value)
