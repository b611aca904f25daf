"""Errors as answers: JSON with the right status and without internal details.

Lower layers raise their own errors and know nothing of HTTP. The table here maps their errors to statuses.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, current_app, got_request_exception, request
from flask.sansio.scaffold import Scaffold
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, default_exceptions

from servease_appt.api.request_state import request_began, request_id
from servease_appt.api.responses import json_response
from servease_appt.api.schemas.operations import ErrorSchema
from servease_appt.api.tokens import NotAuthenticatedError
from servease_appt.appointments import errors as bookings
from servease_appt.cache import CacheUnavailable
from servease_appt.db.errors import DatabaseUnavailable

_log = logging.getLogger(__name__)

MESSAGES = {
    400: "The request could not be understood.",
    404: "Not found.",
    403: "You may not do this.",
    405: "This method is not allowed here.",
    408: "The request took too long to arrive.",
    410: "These changes are no longer kept. Read all appointments, then begin with the changes since.",
    412: "It was changed in the meantime; read it again.",
    413: "The request body is larger than 1 MB.",
    414: "The address is too long.",
    415: "The body must be JSON, sent with Content-Type: application/json.",
    429: "Too many requests; come back later.",
    422: "This Idempotency-Key was used with another body before.",
    431: "The request's headers are too large.",
}
"""The sentence of an error answer, by its status, where nothing more specific is known."""
_ERROR = ErrorSchema()
_KEPT_HEADERS = frozenset({"Allow", "Retry-After", "WWW-Authenticate"})


class ApiError(Exception):
    """An error answer: status, JSON body and headers."""

    def __init__(
        self, status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def field_error(errors: Mapping[str, list[str]]) -> ApiError:
    """400 for fields: `{"field": ["what is wrong", …]}`."""
    return ApiError(400, errors)


def rule_error(*sentences: str) -> ApiError:
    """400 for a rule: `{"detail": ["what is wrong", …]}`."""
    return ApiError(400, {"detail": list(sentences)})


def detail_error(status: int, detail: str | None = None, **headers: str) -> ApiError:
    """Any other status: `{"detail": "what is wrong"}`. Underscores in header names stand for dashes."""
    return ApiError(
        status,
        _ERROR.dump({"detail": detail or MESSAGES[status]}),
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


def unavailable(detail: str, retry_after_s: int) -> ApiError:
    """503, with the seconds after which another try makes sense."""
    return detail_error(503, detail, Retry_After=str(retry_after_s))


def install(scope: Scaffold) -> None:
    """Make every error of ours within `scope`, an application or a blueprint, answer in JSON.

    Handlers go in for each status as well: Flask prefers an application's handler for a status to a
    blueprint's for all, so a host's own 404 page would otherwise stand in for ours.
    """
    scope.register_error_handler(Exception, _answer_if_ours)
    scope.register_error_handler(HTTPException, _answer_if_ours)
    for status in default_exceptions:
        scope.register_error_handler(status, _answer_if_ours)


def _answer_if_ours(error: Exception) -> ResponseReturnValue:
    return answer_to(error) if request_began() else _answer_of_host(error)


def _answer_of_host(error: Exception) -> ResponseReturnValue:
    """Answer as the application would without us: the error left one of its hooks, before any of ours ran.

    Flask chooses the handler by the blueprint of the route, even if a hook of the host raised the error.
    """
    outside = request.blueprints[2:]  # first the resource, second the API
    handler = current_app._find_error_handler(error, outside)  # noqa: SLF001 - Flask has no public way to it
    if handler is not None:
        return current_app.ensure_sync(handler)(error)  # type: ignore[no-any-return]
    if isinstance(error, HTTPException):
        return error
    raise error


def answer_to(error: Exception) -> Response:
    """Return the answer for any error. An unexpected one is logged, and its text is not in the answer.

    Such an error is also sent to the receivers of Flask's signal `got_request_exception`.
    """
    answer = as_api_error(error)
    if answer is None:
        _log.error("Unexpected error, request %s", request_id(), exc_info=error)
        _send_unexpected(error)
        answer = ApiError(500, {"detail": "Something went wrong on our side."})
    return json_response(answer.body, answer.status, answer.headers)


def _send_unexpected(error: Exception) -> None:
    """Tell error trackers, as Flask does of an error that no handler takes; theirs are not to make it worse."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - Flask's own way
    try:
        got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
    except Exception:  # noqa: BLE001 - whatever a receiver of a host's raises
        _log.exception("A receiver of got_request_exception failed")


def as_api_error(error: Exception) -> ApiError | None:
    """Return the answer for `error`; None for an unexpected one."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return _from_werkzeug(error)
    for kind, make in _ANSWERS:
        if isinstance(error, kind):
            return make(error)
    return None


def _from_werkzeug(error: HTTPException) -> ApiError | None:
    status = error.code or 500
    if status >= 500 or status < 400:
        return None
    headers = {name: value for name, value in error.get_headers() if name in _KEPT_HEADERS}
    if status == 400:
        return rule_error(MESSAGES[400])
    return ApiError(status, _ERROR.dump({"detail": MESSAGES.get(status, error.name)}), headers)


def _key_busy(error: bookings.KeyBusy) -> ApiError:
    return detail_error(409, str(error), Retry_After=str(error.retry_after_s))


_ANSWERS: tuple[tuple[type[Exception], Callable[[Any], ApiError]], ...] = (
    (NotAuthenticatedError, lambda error: detail_error(401, str(error), WWW_Authenticate="Bearer")),
    (bookings.NotFound, lambda _: detail_error(404)),
    (bookings.Forbidden, lambda error: detail_error(403, str(error))),
    (bookings.FieldErrors, lambda error: field_error(error.errors)),
    (bookings.RuleBroken, lambda error: rule_error(*error.messages)),
    (bookings.PreconditionFailed, lambda _: detail_error(412)),
    (bookings.ChangesDropped, lambda _: detail_error(410)),
    (bookings.KeyReused, lambda _: detail_error(422)),
    (bookings.KeyBusy, _key_busy),
    (bookings.ReferencesUnavailable, lambda error: unavailable(str(error), error.retry_after_s)),
    (DatabaseUnavailable, lambda error: unavailable("The database is not available.", error.retry_after_s)),
    (CacheUnavailable, lambda error: unavailable("The cache is not available.", error.retry_after_s)),
)
