"""The errors of a call to another service, as one tree.

UpstreamError
├── NotFound       it said 404: there is no such thing
├── Denied         it said 401 or 403: this caller may not see it
├── Unavailable    no usable answer: refused, too slow, cut off, or any other status, redirects included
└── BadAnswer      200, but too big, no JSON object, wrong types, or about something else
"""


class UpstreamError(Exception):
    """The base class. Its text names the service and the reason, and never holds a token or a part of the answer.

    Attributes:
        service: which service was asked.
        status: the HTTP status it answered with; None where there was no answer.
    """

    def __init__(self, service: str, reason: str, status: int | None = None) -> None:
        super().__init__(f"{service} service: {reason}")
        self.service = service
        self.status = status


class NotFound(UpstreamError):
    """The service knows nothing under this id."""


class Denied(UpstreamError):
    """The service does not let this caller see it. Says nothing about what another caller may see."""


class Unavailable(UpstreamError):
    """The service could not answer in time, or at all."""


class BadAnswer(UpstreamError):
    """The service answered something that can't be used."""


class InvalidId(ValueError):
    """The id is not a canonical UUID, so no call was made."""
