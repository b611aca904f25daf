"""Links that open the dashboard once, and the token that a link's code is exchanged for.

The code is in the URL's fragment, which a browser sends to no server and which the page removes at once. Browsers
store the address in their history all the same, so the fragment holds a code that works once, and no token.

The token is of a type of its own: only the dashboard's routes accept it, so a leaked one can read figures and
keys, run the doctor and invalidate cached values, but cannot touch an appointment.
"""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any, Final, NamedTuple

import jwt

PATH: Final = "/ops/cache/"
LINK_LIFETIME_S: Final = 2 * 60
SESSION_LIFETIME_S: Final = 30 * 60
TOKEN_TYPE: Final = "dashboard"  # noqa: S105 - a name, no secret
"""The `token_type` of the page's token."""
_LINK: Final = "dashboard_link"


class Code(NamedTuple):
    """A valid code of a link.

    Attributes:
        id: what tells it from other codes.
        left_s: the whole seconds until it expires, at least 1.
    """

    id: str
    left_s: int


def dashboard_link(base_url: str, secret_key: str, lifetime_s: int = LINK_LIFETIME_S) -> str:
    """Return the link to open in a browser; `base_url` is the service's, such as `http://localhost:8005`."""
    code = _signed({"token_type": _LINK, "jti": secrets.token_hex(16)}, lifetime_s, secret_key)
    return f"{base_url.rstrip('/')}{PATH}#code={code}"


def read_code(code: str, secret_key: str) -> Code | None:
    """Return what a valid code says, which the caller must accept only once; None for anything else."""
    try:
        claims: dict[str, Any] = jwt.decode(
            code, secret_key, algorithms=["HS256"], options={"require": ["exp", "jti"]}
        )
    except (jwt.PyJWTError, ValueError):
        return None
    if claims.get("token_type") != _LINK:
        return None
    return Code(claims["jti"], max(1, int(claims["exp"] - time.time()) + 1))


def session_token(secret_key: str) -> str:
    """Return a token for the page, which only the dashboard's routes accept."""
    claims = {"user_id": str(uuid.uuid4()), "user_role": "admin", "token_type": TOKEN_TYPE}
    return _signed(claims, SESSION_LIFETIME_S, secret_key)


def _signed(claims: dict[str, Any], lifetime_s: int, secret_key: str) -> str:
    now = int(time.time())
    return jwt.encode({**claims, "iat": now, "exp": now + lifetime_s}, secret_key, algorithm="HS256")
