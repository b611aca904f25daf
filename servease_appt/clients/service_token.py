"""The service's own bearer token, for cache fills that do not depend on the rights of a caller."""

from __future__ import annotations

import time
import uuid
from typing import Final

import jwt

LIFETIME_S: Final = 120
_ID: Final = str(uuid.uuid5(uuid.NAMESPACE_URL, "servease:appointment-service"))


class ServiceToken:
    """Signs short-lived tokens with the role `service`, and returns each until half its life is over."""

    def __init__(self, secret_key: str) -> None:
        self._secret_key = secret_key
        self._token = ""
        self._renew_at_s = 0.0

    def __repr__(self) -> str:
        return "<ServiceToken>"

    def get(self) -> str:
        """Return a token that is valid for another minute at least. Thread-safe: two may be signed at once."""
        now = time.time()
        if now >= self._renew_at_s:
            claims = {
                "user_id": _ID,
                "user_role": "service",
                "token_type": "access",
                "iat": int(now),
                "exp": int(now) + LIFETIME_S,
            }
            self._token = jwt.encode(claims, self._secret_key, algorithm="HS256")
            self._renew_at_s = now + LIFETIME_S / 2
        return self._token
