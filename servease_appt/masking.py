"""Passwords in URLs, kept out of logs, messages and tracebacks."""

import re
from typing import Final
from urllib.parse import parse_qsl

MASK: Final = "***"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_SHOWN_IN_QUERIES = frozenset(
    {
        "application_name", "connect_timeout", "db", "dbname", "host", "options", "port", "protocol",
        "socket_connect_timeout", "socket_timeout", "ssl_cert_reqs", "sslmode", "target_session_attrs",
    }
)  # fmt: skip
_NO_PORT = re.compile(r"://[^/,\[\]]*:(?!\d*(?:[/,]|$))")


def mask_url(url: str) -> str:
    """Return `url` with everything replaced by `***` that is or could be a password.

    That is the password before the host (or what stands there alone: `redis://PASSWORD@host`), the values of a
    query but for some that are known to be harmless, and the fragment. A text that can't be taken apart without
    doubt is masked whole: more may be hidden than need be, never less.

    Example:
        >>> mask_url("redis://worker:pass@word@cache:6379/1?db=1&password=hush")
        'redis://worker:***@cache:6379/1?db=1&password=***'
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        return MASK
    before, _, fragment = rest.rpartition("#")
    if before and "@" not in fragment:  # else it is part of a password
        return f"{mask_url(f'{scheme}://{before}')}#{MASK}"
    address, question, query = rest.partition("?")
    if "@" in query:  # it may be part of a password, and the host's name what follows it
        return f"{scheme}://{MASK}"
    credentials, at, host = address.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:{MASK}@{host}" if colon else f"{MASK}@{host}" if at else address
    values = parse_qsl(query, keep_blank_values=True)
    masked = "&".join(f"{name}={value if name in _SHOWN_IN_QUERIES else MASK}" for name, value in values)
    return f"{scheme}://{shown}{question}{masked}"


def mask_refused_url(text: str) -> str:
    """Return what was given as a URL and can't be used, without passwords.

    A text that has no sign of one is shown as it is, so that its writer finds the mistake.
    """
    if any(sign in text for sign in "@?#"):
        return mask_url(text)
    if "://" not in text:
        return MASK if ":" in text else text
    return f"{text.partition('://')[0]}://{MASK}" if _NO_PORT.search(text) else text
