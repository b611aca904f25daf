"""What to do against each failure of Redis: by the cause of a refusal, else by parts of the error's text."""

from __future__ import annotations

from typing import Final

from servease_appt.cache.refusals import LEAST_REDIS, cause_of

REFUSALS: Final = {
    "OOM": (
        "It is full (maxmemory) and refuses writes.",
        "Raise maxmemory, or set `maxmemory-policy volatile-lru`: every cached value has a TTL.",
    ),
    "MISCONF": (
        "It cannot save its data to disk and therefore refuses writes.",
        "Free disk space, or turn persistence off: the cache needs none.",
    ),
    "READONLY": (
        "It is a replica and refuses writes.",
        "Use the primary in REDIS_URL, or redis+sentinel://.",
    ),
    "NOPERM": (
        "Its user has no right to write the cache's keys.",
        "Give the user in REDIS_URL the commands and keys of the cache (ACL).",
    ),
}
"""By the cause of a refused write: what is wrong, and what to do."""
RIGHTS: Final = "Give the user in REDIS_URL the rights in deploy/users.acl. Redis itself is running."
UPGRADE: Final = f"Upgrade the server to Redis {LEAST_REDIS} or later, or to Valkey."
UNUSABLE: Final = {
    "NOPERM": RIGHTS,
    "NO_RESP3": (
        f"{UPGRADE} The cache needs RESP3 (HELLO 3), which an old server, a proxy or `rename-command` may refuse;"
        " RESP2 is not supported."
    ),
    "NO_DATABASE": (
        "End REDIS_URL with a database that the server has, such as /0, for all workers. Redis itself is running."
    ),
    "OLD_VERSION": UPGRADE,
    "UNKNOWN_COMMAND": "Turn on the commands in deploy/users.acl, Lua scripts included: see `rename-command`.",
}
"""By the cause of a refusal: what to do where Redis answers and can't be used."""

_PASSWORD: Final = ("WRONGPASS", "NOAUTH", "AUTH ", "invalid username-password")
_NO_SENTINEL: Final = "no sentinel knows"
_ADDRESS: Final = "REDIS_URL, or REDIS_HOST and REDIS_PORT"
_RECONNECT: Final = "Workers reconnect by themselves."
_OF_SENTINELS: Final = (
    (_PASSWORD, "Correct sentinel_password in REDIS_URL: the sentinels refuse it."),
    (
        ("Error ", "imeout", "timed out"),
        f"Start the sentinels, or correct their addresses in REDIS_URL. {_RECONNECT}",
    ),
    (
        ("",),
        "Correct the service in REDIS_URL: `redis-cli -p 26379 SENTINEL MASTERS` lists those that sentinels know."
        " If it is there, start the primary.",
    ),
)
_CURES: Final = (
    (_PASSWORD, "Correct the user name and password in REDIS_URL. Redis itself is running."),
    (
        ("Hostname mismatch", "IP address mismatch"),
        "Use a host name in REDIS_URL that the server's certificate is for. Redis itself is running.",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "Give ssl_ca_certs=FILE in REDIS_URL, the authority that signed the server's certificate. Redis itself is"
        " running.",
    ),
    (
        ("Protocol Error", "Connection closed by server", "[SSL"),
        f"Another program answers at that address, or one side uses TLS and the other does not: correct {_ADDRESS}"
        " (rediss:// is with TLS).",
    ),
    (("Cluster mode is not enabled",), "Use redis:// in REDIS_URL: this server is no cluster."),
    (("loading", "LOADING"), f"Wait until Redis has loaded its data. {_RECONNECT}"),
    (("No such file",), "Correct the path in REDIS_URL, of the socket or of a certificate, or start Redis."),
    (
        ("Name or service not known", "nodename nor servname", "name resolution"),
        "Correct the host in REDIS_URL or REDIS_HOST: its name is not known here.",
    ),
    (("refused",), f"Start Redis, or correct {_ADDRESS}. {_RECONNECT}"),
    (
        ("imeout", "timed out"),
        "Nothing answers at that address in time: look for a frozen process, a slow command, a firewall, a wrong"
        f" REDIS_URL or REDIS_HOST, or rediss:// for a server without TLS. {_RECONNECT}",
    ),
    (("",), f"Check that Redis runs there, and {_ADDRESS}. {_RECONNECT}"),
)
"""Parts of the error's text, and what to do where one of them is in it; the first that matches counts."""


def root_cause(error: BaseException) -> str:
    """Return the cause of an error of redis-py, which may be behind one of the cache; empty: none is known."""
    return cause_of(error) or (cause_of(error.__cause__) if error.__cause__ is not None else None) or ""


def cure_of(error: BaseException, reason: str) -> str:
    """Say what to do where Redis can't be used.

    Args:
        error: what it failed with.
        reason: the text of the error, on one line.
    """
    if _NO_SENTINEL in reason:
        return _first_match(_OF_SENTINELS, reason)
    if any(sign in reason for sign in _PASSWORD):
        return _first_match(_CURES, reason)
    return UNUSABLE.get(root_cause(error)) or _first_match(_CURES, reason)


def _first_match(cures: tuple[tuple[tuple[str, ...], str], ...], reason: str) -> str:
    return next(do for signs, do in cures if any(sign in reason for sign in signs))
