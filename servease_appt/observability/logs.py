"""Logs as JSON lines, configured by `gunicorn.conf.py` alone: importing the package configures no logging.

A line contains no token, e-mail address, name or query string. The access line is built from the route's name, not
from the requested path. In all other texts, `***` replaces everything that looks like a secret. Escapes are ASCII,
so that no text from outside can end a line or send an escape sequence to a terminal.

This uses the standard library's `json`: unlike orjson, it escapes U+0085, U+2028 and lone surrogates.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger

from servease_appt.observability.access_log import ACCESS, METHODS, AccessLogEntry

# A line stays below 4096 bytes, which a pipe writes atomically: lines of several workers never interleave.
LONGEST_MESSAGE = 1400
LONGEST_TRACEBACK = 2000
# A secret that this cut splits is far from the part that is kept.
LONGEST_LOOK = 16_000
_SECRET = re.compile(
    r"""eyJ[\w-]+ (?: \.[\w-]* )*         # a token
      | (?i: bearer ) \s+ \S+
      | (?<=://) [^\s/@]+ (?=@)           # credentials in an address
      | [\w.%+-]{1,64} @ [\w-]+ \. [\w.-]+  # an e-mail address
      | (?<=\?) [^\s'"]+                  # a query
    """,
    re.VERBOSE,
)


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON; `extra={"fields": {…}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
        }
        fields: Mapping[str, Any] | None = getattr(record, "fields", None)
        if fields is None:
            line["message"] = _fit(clean(record.getMessage()[:LONGEST_LOOK]), LONGEST_MESSAGE)
        else:
            line.update(fields)
        if record.exc_info:
            line["exception"] = _fit(
                clean(self.formatException(record.exc_info)[-LONGEST_LOOK:]), -LONGEST_TRACEBACK
            )
        return json.dumps(line)


class GunicornLogger(Logger):  # type: ignore[misc] # gunicorn is not typed
    """gunicorn's logger, with an access line made from `AccessLogEntry`; gunicorn's own contains the query."""

    def access(
        self,
        resp: Any,
        req: Any,  # noqa: ARG002 - gunicorn's way to call
        environ: Mapping[str, Any],
        request_time: timedelta,
    ) -> None:
        """Log one answered request."""
        known: AccessLogEntry | None = environ.get(ACCESS)
        method = environ["REQUEST_METHOD"]
        fields: dict[str, Any] = {
            "message": "request",
            "request_id": known.request_id if known else None,
            "method": method if method in METHODS else "other",
            "route": known.route if known else None,
            "status": int(resp.status.split()[0]),  # a refused request's response has no `status_code`
            "duration_ms": round(request_time.total_seconds() * 1000, 3),
        }
        if known and known.x_cache:
            fields["cache"] = _counts(known.x_cache)
        self.access_log.info("request", extra={"fields": fields})


def clean(text: str) -> str:
    """Return the text with secrets and personal data, as far as they can be recognised, replaced by `***`."""
    return _SECRET.sub("***", text)


def _fit(text: str, most: int) -> str:
    """Cut a text so that its JSON has at most `abs(most)` characters: keep its head, or its tail if negative."""
    while len(json.dumps(text)) > abs(most):
        kept = min(len(text) * 3 // 4, abs(most))
        text = text[:kept] if most > 0 else text[-kept:]
    return text


def _counts(x_cache: str) -> dict[str, int]:
    return {source: int(n) for source, _, n in (part.partition("=") for part in x_cache.split())}


def _utc(at_s: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))
    return f"{whole}.{int(at_s % 1 * 1000):03d}Z"


def logging_config() -> dict[str, Any]:
    """Return gunicorn's `logconfig_dict`: all logging of this process as JSON lines on standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {"handlers": ["stderr"], "propagate": False},
            "gunicorn.access": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
            "servease_appt": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
        },
    }
