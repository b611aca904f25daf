"""Parse how a person names cached entities: by entity and id, or by key, with or without the prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

import click

from servease_appt.cache.keys import KeySpace
from servease_appt.identifiers import canonical_uuid
from servease_appt.references.entities import ENTITIES

F = TypeVar("F", bound=Callable[..., Any])

EXAMPLE_ID = "bcee5755-2c9f-4c0a-8720-1592b75edf96"


def _complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    return [entity for entity in ENTITIES if entity.startswith(typed)]


class _Entity(click.Choice[str]):
    """The name of an entity; a misspelled one is refused with the name that is meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise click.BadParameter(f"{error.message}{_did_you_mean(str(value))}", ctx, param) from error


def entity_option(text: str) -> Callable[[F], F]:
    """Return the decorator for `--entity`, with the text that `--help` shows."""
    return click.option("--entity", type=_Entity(tuple(ENTITIES)), help=text)


entities_argument = click.argument(
    "words", metavar="ENTITY UUID... | KEY...", nargs=-1, required=True, shell_complete=_complete
)
"""The words for `keys_of`; the shell completes the names of entities."""


def keys_of(words: Iterable[str], space: KeySpace) -> list[str]:
    """Return the cache keys that the words name, each once, in order.

    `customer UUID UUID vehicle UUID`, `customer_UUID` and `prefix:customer_UUID` may be mixed.

    Raises:
        click.UsageError: A word is none of these; the message names it and what is allowed.
    """
    entity: str | None = None
    unused = False
    keys: dict[str, None] = {}
    for word in words:
        if word in ENTITIES:
            if unused:
                raise click.UsageError(f"Put at least one UUID after {entity!r}.")
            entity, unused = word, True
            continue
        id_ = canonical_uuid(word)
        if id_ is None:
            keys[_key(word, space)] = None
        elif entity is None:
            raise click.UsageError(f"Put the entity before {word}: {', '.join(ENTITIES)}.")
        else:
            keys[f"{entity}_{id_}"], unused = None, False
    if unused:
        raise click.UsageError(f"Put at least one UUID after {entity!r}.")
    return list(keys)


def _key(word: str, space: KeySpace) -> str:
    entity, underscore, rest = space.plain(word).partition("_")
    id_ = canonical_uuid(rest)
    if entity in ENTITIES and id_ is not None:
        return f"{entity}_{id_}"
    if underscore and entity in ENTITIES:
        raise click.UsageError(f"{rest!r} in {word!r} is not a UUID such as {EXAMPLE_ID}.")
    raise click.UsageError(
        f"{word!r} is not an entity ({', '.join(ENTITIES)}), a UUID or a key such as customer_{EXAMPLE_ID}."
        f"{_did_you_mean(word)}"
    )


def pattern_of(word: str, space: KeySpace) -> str:
    """Return a glob pattern over keys without the prefix; an entity's name stands for all of its keys."""
    return f"{word}_*" if word in ENTITIES else space.plain(word)


def _did_you_mean(word: str) -> str:
    meant = similar_entity(word)
    return f" Did you mean {meant}?" if meant else ""


def similar_entity(word: str) -> str | None:
    """Return the entity that a misspelled word such as `customers` or `custmer` stands for; None for no guess."""
    matches = get_close_matches(word.partition("_")[0].lower(), ENTITIES, n=1, cutoff=0.8)
    return matches[0] if matches else None
