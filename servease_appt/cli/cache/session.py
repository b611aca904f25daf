"""The session of a command: what Redis fails with becomes one line on standard error and exit code 1."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import click
from flask import current_app
from redis.exceptions import RedisError

from servease_appt.cache import CacheError
from servease_appt.container import EXTENSION, Container
from servease_appt.inspection.session import OperatorSession, operator_session
from servease_appt.masking import mask_url
from servease_appt.settings import Settings


def current_container() -> Container:
    """Return the parts of the application that the command runs in."""
    return cast("Container", current_app.extensions[EXTENSION])


@contextmanager
def open_session() -> Iterator[OperatorSession]:
    """Open a session for one command. Raises ClickException where Redis fails."""
    container = current_container()
    # Silenced until the session is closed, too: closing waits for loads that Ctrl-C makes fail.
    with _log_silenced(), operator_session(container) as session:
        try:
            yield session
        except (RedisError, CacheError) as error:
            raise click.ClickException(redis_failure(container.settings, error)) from error


@contextmanager
def _log_silenced() -> Iterator[None]:
    """Keep the service's log lines off the terminal: the command reports the same failures itself.

    After Ctrl-C they stay off: threads that are still waiting fail when their connections are closed.
    """
    log = logging.getLogger("servease_appt")
    level = log.level
    log.setLevel(logging.CRITICAL)
    interrupted = False
    try:
        yield
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        if not interrupted:
            log.setLevel(level)


def redis_failure(settings: Settings, error: BaseException) -> str:
    """Describe in one line what Redis failed with; the address has its password masked."""
    what = " ".join(str(error).split()) or type(error).__name__
    return (
        f"Redis at {mask_url(settings.redis_url)}: {what.rstrip('.')}."
        " Check REDIS_URL or REDIS_HOST, or run `cache doctor`."
    )
