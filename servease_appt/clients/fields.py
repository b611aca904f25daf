"""Read the needed fields of an upstream's JSON object."""

import re
from collections.abc import Iterable
from typing import Any

from servease_appt.clients.errors import BadAnswer
from servease_appt.identifiers import canonical_uuid

# Half a character: JSON can spell it, UTF-8 can't.
_SURROGATE = re.compile("[\ud800-\udfff]")
# What the customer service writes where it does not know the name.
_NO_NAME = "N/A"


def text(service: str, answer: dict[str, Any], *names: str) -> str | None:
    """Return the first of these fields that holds text, without blanks around it.

    Return "" if one is there but blank or null, and None if none is there at all.

    Raises:
        BadAnswer: a field holds something else than text, or text that can't be written as UTF-8.
    """
    found: str | None = None
    for name in names:
        if name not in answer:
            continue
        value = answer[name]
        if value is None:
            found = ""
            continue
        if not isinstance(value, str) or _SURROGATE.search(value):
            raise BadAnswer(service, f"answered with a {name} that is no text", 200)
        found = value.strip()
        if found:
            return found
    return found


def full_name(service: str, answer: dict[str, Any], *parts: tuple[str, str]) -> str:
    """Return the name of a person: `full_name`, else the first pair of fields of `parts` that is not blank.

    Return "" where all that is there is blank.

    Raises:
        BadAnswer: there is no name in any form, or one that is no text.
    """
    name = text(service, answer, "full_name")
    if name and name != _NO_NAME:
        return name
    for first, last in parts:
        words = [text(service, answer, first), text(service, answer, last)]
        joined = " ".join(word for word in words if word)
        if joined:
            return joined
        if any(word is not None for word in words):
            name = ""
    if name is None:
        raise BadAnswer(service, "answered without a name", 200)
    return "" if name == _NO_NAME else name


def other_ids(service: str, answer: dict[str, Any], asked: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the UUIDs in these fields except the one asked for.

    Raises:
        BadAnswer: there are some, and the one asked for is not among them: the answer is about something
            else.
    """
    ids = {found for name in names if (found := canonical_uuid(answer.get(name)))}
    if ids and asked not in ids:
        raise BadAnswer(service, "answered about another id than the one asked for", 200)
    return tuple(sorted(ids - {asked}))
