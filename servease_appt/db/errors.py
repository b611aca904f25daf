"""The one error that PostgreSQL's absence becomes."""

from typing import Final

RETRY_AFTER_S: Final = 2


class DatabaseUnavailable(Exception):
    """PostgreSQL is away, too slow, full, read-only, or has not been migrated.

    Attributes:
        retry_after_s: whole seconds after which asking again makes sense.
    """

    def __init__(self, message: str, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
