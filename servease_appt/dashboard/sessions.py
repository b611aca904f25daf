"""Exchange a link's code for a token, once per code as long as Redis answers."""

from __future__ import annotations

import logging

from redis.exceptions import RedisError

from servease_appt.api.tokens import NotAuthenticatedError
from servease_appt.container import Container
from servease_appt.dashboard.links import Code, read_code, session_token

log = logging.getLogger(__name__)


class Sessions:
    """Issues tokens for the page."""

    def __init__(self, container: Container) -> None:
        self._secret_key = container.settings.secret_key
        self._cache = container.lookups.cache

    def token_for(self, code: str) -> str:
        """Return a token for the page. Raises NotAuthenticatedError for an invalid or used code."""
        read = read_code(code, self._secret_key)
        if read is None or not self._is_first_use(read):
            raise NotAuthenticatedError("This link has expired or was already used.")
        return session_token(self._secret_key)

    def _is_first_use(self, code: Code) -> bool:
        """While Redis is down a code works until it expires: the dashboard is needed most during a failure."""
        name = f"{self._cache.keys.prefix}:__link:{code.id}"
        try:
            return bool(self._cache.l2.client.set(name, 1, nx=True, ex=code.left_s))
        except (RedisError, OSError):
            log.warning(
                "A dashboard link was accepted without checking whether it was used before: Redis does not answer"
            )
            return True
