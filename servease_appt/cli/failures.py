"""What a command prints when a server fails: one line, and none of the service's own log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.masking import mask_url
from servease_appt.settings import Settings


@contextmanager
def log_silenced() -> Iterator[None]:
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


def database_failure(settings: Settings, error: DatabaseUnavailable) -> str:
    """Describe in one line why PostgreSQL can't be used; the address has its password masked."""
    reason = " ".join(error.detail.partition(" Is the server running")[0].split()).rstrip(".")
    says = f"{error}: {reason}" if reason and reason != str(error) else str(error)
    return f"{says}. DATABASE_URL is {mask_url(settings.database_url)}. `cache doctor` says what to do."
