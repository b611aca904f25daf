"""A link's code for a token: once, wherever Redis can tell that it was used."""

from __future__ import annotations

import logging

from redis.exceptions import RedisError

from servease_appt.api.tokens import NotAuthenticatedError
from servease_appt.container import Container
from servease_appt.dashboard.links import LINK_LIFETIME_S, read_code, session_token

log = logging.getLogger(__name__)


class Sessions:
    """Hands out tokens for the page."""

    def __init__(self, container: Container) -> None:
        self._secret_key = container.settings.secret_key
        self._cache = container.lookups.cache

    def token_for(self, code: str) -> str:
        """Return an admin's token. Raises NotAuthenticatedError for a code that is not good, or was used."""
        code_id = read_code(code, self._secret_key)
        if code_id is None or not self._is_first_use(code_id):
            raise NotAuthenticatedError("This link is not good, or not any more: each opens the page once.")
        return session_token(self._secret_key)

    def _is_first_use(self, code_id: str) -> bool:
        """Without Redis a code is good until it expires: the dashboard is needed most while something is away."""
        name = f"{self._cache.keys.prefix}:__link:{code_id}"
        try:
            return bool(self._cache.l2.client.set(name, 1, nx=True, ex=LINK_LIFETIME_S))
        except (RedisError, OSError):
            log.warning("A dashboard link was taken without knowing whether it had been used: Redis is away")
            return True
