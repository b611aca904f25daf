"""The session of a command: what Redis fails with becomes one line on standard error and exit code 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import click
from flask import current_app
from redis.exceptions import RedisError

from servease_appt.cache import CacheError
from servease_appt.cli.failures import log_silenced, redis_failure
from servease_appt.container import EXTENSION, Container
from servease_appt.inspection.session import OperatorSession, operator_session


def current_container() -> Container:
    """Return the parts of the application that the command runs in."""
    return cast("Container", current_app.extensions[EXTENSION])


@contextmanager
def open_session() -> Iterator[OperatorSession]:
    """Open a session for one command. Raises ClickException where Redis fails."""
    container = current_container()
    # Silenced until the session is closed, too: closing waits for loads that Ctrl-C makes fail.
    with log_silenced(), operator_session(container) as session:
        try:
            yield session
        except (RedisError, CacheError) as error:
            raise click.ClickException(redis_failure(container.settings, error)) from error
