"""The dashboard's address with a code that opens it once, and the token that the code is good for.

The code stands in the fragment, which a browser sends to nobody and which the page takes away at once. Browsers
write the address into their history all the same; so what is found there is no token, but a code that has been
used and that no other part of the platform takes.
"""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any, Final

import jwt

PATH: Final = "/ops/cache/"
LINK_LIFETIME_S: Final = 2 * 60
SESSION_LIFETIME_S: Final = 30 * 60
_LINK: Final = "dashboard_link"


def dashboard_link(base_url: str, secret_key: str) -> str:
    """Return the address to open in a browser; `base_url` is the service's, such as `http://localhost:8005`."""
    code = _signed({"token_type": _LINK, "jti": secrets.token_hex(16)}, LINK_LIFETIME_S, secret_key)
    return f"{base_url.rstrip('/')}{PATH}#code={code}"


def read_code(code: str, secret_key: str) -> str | None:
    """Return the id of a code that is good now, which must be used only once; None for anything else."""
    try:
        claims: dict[str, Any] = jwt.decode(
            code, secret_key, algorithms=["HS256"], options={"require": ["exp", "jti"]}
        )
    except (jwt.PyJWTError, ValueError):
        return None
    return claims["jti"] if claims.get("token_type") == _LINK else None


def session_token(secret_key: str) -> str:
    """Return an admin's access token for the page."""
    claims = {"user_id": str(uuid.uuid4()), "user_role": "admin", "token_type": "access"}
    return _signed(claims, SESSION_LIFETIME_S, secret_key)


def _signed(claims: dict[str, Any], lifetime_s: int, secret_key: str) -> str:
    now = int(time.time())
    return jwt.encode({**claims, "iat": now, "exp": now + lifetime_s}, secret_key, algorithm="HS256")
