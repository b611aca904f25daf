"""How a person names what is cached: by entity and id, or by key, with or without the prefix."""

from __future__ import annotations

from collections.abc import Iterable

import click

from servease_appt.cache.keys import KeySpace
from servease_appt.identifiers import canonical_uuid
from servease_appt.references.entities import ENTITIES

METAVAR = "ENTITY UUID... | KEY..."
EXAMPLE_ID = "bcee5755-2c9f-4c0a-8720-1592b75edf96"


def keys_of(words: Iterable[str], space: KeySpace) -> list[str]:
    """Return the keys, once each, in order.

    `customer UUID UUID vehicle UUID`, `customer_UUID` and `prefix:customer_UUID` may be mixed. Raises
    click.UsageError naming the word that is none of these, and what is allowed.
    """
    entity: str | None = None
    unused = False
    keys: dict[str, None] = {}
    for word in words:
        if word in ENTITIES:
            if unused:
                raise click.UsageError(f"{entity!r} is followed by no UUID.")
            entity, unused = word, True
            continue
        id_ = canonical_uuid(word)
        if id_ is None:
            keys[_key(word, space)] = None
        elif entity is None:
            raise click.UsageError(f"Which entity is {word}? Say one of {', '.join(ENTITIES)} before it.")
        else:
            keys[f"{entity}_{id_}"], unused = None, False
    if unused:
        raise click.UsageError(f"{entity!r} is followed by no UUID.")
    return list(keys)


def _key(word: str, space: KeySpace) -> str:
    entity, underscore, rest = space.plain(word).partition("_")
    id_ = canonical_uuid(rest)
    if entity in ENTITIES and id_ is not None:
        return f"{entity}_{id_}"
    if underscore and entity in ENTITIES:
        raise click.UsageError(f"{rest!r} in {word!r} is no UUID such as {EXAMPLE_ID}.")
    raise click.UsageError(
        f"{word!r} is no entity ({', '.join(ENTITIES)}), no UUID and no key such as customer_{EXAMPLE_ID}."
    )


def pattern_of(word: str, space: KeySpace) -> str:
    """A glob pattern over keys without the prefix; an entity's name stands for all of its keys."""
    return f"{word}_*" if word in ENTITIES else space.plain(word)


def short_worker(identity: str) -> str:
    """A worker's `host:pid` out of its identity, for people."""
    return identity.rpartition(":")[0] or identity
