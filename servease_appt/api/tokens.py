"""Check the bearer token of a request and turn it into a `Caller`.

Only tokens of the platform's authentication service are accepted: HS256 under the shared key, with a numeric
expiry. PyJWT converts numeric strings and booleans to times, so the types are checked here as well.
"""

import math
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import jwt

from servease_appt.appointments.actors import Actor, Role
from servease_appt.identifiers import canonical_uuid

ACCESS = "access"
"""The `token_type` of the platform's own tokens, and of those that name none."""
_ALGORITHMS = ["HS256"]
_LONGEST_HEADER = 8192
_BEARER = re.compile(r"Bearer +([\w-]+\.[\w-]+\.[\w-]+) *", re.ASCII | re.IGNORECASE)
# `sub` and `jti` are not checked: identity is `user_id`, and tokens are stateless.
_OPTIONS: Any = {"require": ["exp"], "verify_sub": False, "verify_jti": False}
_ROLES = {role.value: role for role in Role}


class NotAuthenticatedError(Exception):
    """The request has no valid token. The text may be shown to the caller."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The user and role of a checked token, and the token itself for the upstream services.

    The role `service` needs no user: `actor.user_id` may be empty.
    """

    actor: Actor
    token: str

    def __repr__(self) -> str:
        return f"Caller(actor={self.actor!r}, token=***)"


def read_caller(
    authorization: str | None, secret_key: str, token_types: Collection[str] = (ACCESS,)
) -> Caller:
    """Check the token in the header `Authorization`.

    Args:
        authorization: the header, or None if there is none.
        secret_key: the key that signs tokens.
        token_types: the values of `token_type` that are accepted.

    Raises:
        NotAuthenticatedError: the header holds no valid token. Nothing else is raised.
    """
    if not authorization:
        raise NotAuthenticatedError("Authentication credentials were not provided.")
    match = _BEARER.fullmatch(authorization) if len(authorization) <= _LONGEST_HEADER else None
    if match is None:
        raise NotAuthenticatedError("The Authorization header must be: Bearer <token>.")
    token = match[1]
    return Caller(_actor(_checked_claims(token, secret_key, token_types)), token)


def _checked_claims(token: str, secret_key: str, token_types: Collection[str]) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(token, secret_key, algorithms=_ALGORITHMS, options=_OPTIONS)
    except jwt.ExpiredSignatureError:
        raise NotAuthenticatedError("The token has expired.") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise NotAuthenticatedError("The token is not valid.") from None
    not_before = claims.get("nbf", 0)
    if not _is_time(claims["exp"]) or not _is_time(not_before) or not_before > time.time():
        raise NotAuthenticatedError("The token is not valid.")
    if claims.get("token_type", ACCESS) not in token_types:
        raise NotAuthenticatedError("This is not an access token.")
    return claims


def _is_time(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _actor(claims: dict[str, Any]) -> Actor:
    role_name = claims.get("user_role")
    role = _ROLES.get(role_name, Role.CUSTOMER) if isinstance(role_name, str) else Role.CUSTOMER
    user_id = canonical_uuid(claims.get("user_id"))
    if user_id is None and role is not Role.SERVICE:
        raise NotAuthenticatedError("The token names no user.")
    return Actor(user_id or "", role)
