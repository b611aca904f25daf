"""The Lua scripts of L2, their arguments, and their answers."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any

from redis.exceptions import InvalidResponse

from servease_appt.cache.l2.protocol import Fill, Lease, LeaseState

_STORED = ord("1")
_LEASE_STATES = {"h": LeaseState.HELD, "G": LeaseState.GRANTED}


@cache
def script_source(name: str) -> str:
    """Return the text of a script, with its include expanded."""
    scripts = resources.files(__package__).joinpath("scripts")
    announce = scripts.joinpath("announce.lua").read_text()
    return scripts.joinpath(f"{name}.lua").read_text().replace("-- include announce.lua\n", announce)


def fill_args(fill: Fill) -> tuple[bytes | str | int, ...]:
    """Return the arguments of `fill.lua` for one key. An absence differs from an empty value."""
    if fill.payload is None:
        return fill.token, b"", fill.ttl_ms, "absent"
    return fill.token, fill.payload, fill.ttl_ms, fill.stale_ms


def read_stored(answer: Any, count: int) -> list[bool]:
    """Return the answer of `fill.lua` for `count` keys."""
    if not isinstance(answer, bytes) or len(answer) != count:
        raise InvalidResponse(f"{count} letters were expected")
    return [letter == _STORED for letter in answer]


def read_leases(answer: Any, owner: bytes, count: int) -> list[Lease]:
    """Return the answer of `acquire.lua`, sent by `owner` for `count` keys."""
    if not isinstance(answer, list) or len(answer) < 2 or len(answer[0] or b"") != count:
        raise InvalidResponse(f"leases of {count} keys were expected")
    letters, _sequence, *rest = answer
    more = iter(rest)
    new = Lease(LeaseState.GRANTED, owner)
    leases: list[Lease] = []
    for letter in letters.decode():
        if letter == "g":
            leases.append(new)
        elif letter == "a":
            leases.append(Lease(LeaseState.ABSENT))
        elif letter == "v":
            leases.append(Lease(LeaseState.VALUE, next(more)))
        else:
            leases.append(Lease(_LEASE_STATES[letter], next(more), next(more)))
    return leases


def fingerprint(payload: bytes) -> str:
    """Return the hash by which `discard.lua` compares stored bytes."""
    return hashlib.sha1(payload, usedforsecurity=False).hexdigest()


def items(reply: Any, count: int) -> list[Any]:
    """Return the reply if it has `count` answers: a connection out of step returns another command's reply."""
    if not isinstance(reply, list) or len(reply) != count:
        raise InvalidResponse(f"{count} answers were expected")
    return reply
