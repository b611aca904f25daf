"""The wire format of invalidations: keys, never values.

Three forms share one channel. The cache's own message says that the keys are already deleted from L2. Its sequence
number lets a receiver detect a gap. The two other forms are requests from any Redis client.

    {"v":1,"source":"host:41:9f2c","seq":1763816400000042,"keys":["customer_…"]}     own; or "pattern", "began"
    customer_bcee5755-2c9f-4c0a-8720-1592b75edf96                                     a plain key
    {"keys":["customer_…", …]}   or   {"pattern":"customer_*"}                        a JSON request
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

WIRE_VERSION = 1
MAX_MESSAGE_BYTES = 1_048_576
MAX_KEY_CHARS = 512
MAX_KEYS = 10_000
STARTS = 0
NAMED_SOURCES = 3
# The most frequent form of the cache's own message. JSON's decoder takes three times as long.
_ONE_KEY = re.compile(
    r'\{"v":1,"source":"([^"\\\x00-\x1f]*)","seq":(0|[1-9][0-9]{0,17}),"keys":\["([^"\\\x00-\x1f]*)"\]\}'
)


class UnreadableMessage(ValueError):
    """A message that has none of the known forms; it is counted and ignored."""


@dataclass(frozen=True, slots=True)
class Invalidation:
    """Keys without the prefix, or a glob pattern; `sequence` is None for a request from another client.

    `unreadable`: the number of entries in the list of keys that are no keys. `began`: the sequence number of the
    start of a pattern's scans; `STARTS` in the message that announces the start.
    """

    keys: tuple[str, ...] = ()
    pattern: str | None = None
    source: str | None = None
    sequence: int | None = None
    unreadable: int = 0
    began: int | None = None

    @property
    def can_coalesce(self) -> bool:
        """True if `coalesce` may take it: a message of the cache's own with keys, all of them readable."""
        return bool(self.keys and self.source and self.sequence is not None and not self.unreadable)


def own_message_parts(invalidation: Invalidation) -> tuple[str, str]:
    """Return the parts of a message before and after the sequence number, which the server inserts."""
    head = f'{{"v":{WIRE_VERSION},"source":{json.dumps(invalidation.source)},"seq":'
    if invalidation.pattern is not None:
        began = "" if invalidation.began is None else f',"began":{invalidation.began}'
        return head, f',"pattern":{json.dumps(invalidation.pattern)}{began}}}'
    return head, f',"keys":{json.dumps(list(invalidation.keys))}}}'


def coalesce(messages: Iterable[Invalidation]) -> list[Invalidation]:
    """Return messages with the same effect as the cache's own messages with keys that were received together.

    Those from one source become one message, and so do those about the same keys. Their order makes no difference.
    A key occurs as often as it was named. The sequence number is the last one.
    """
    by_keys: dict[tuple[str, ...], list[Invalidation]] = {}
    last = None
    for message in messages:
        by_keys.setdefault(message.keys, []).append(message)
        last = message.sequence
    by_source: dict[str, list[str]] = {}
    for keys, same in by_keys.items():
        by_source.setdefault(_sources(same), []).extend(keys * len(same))
    return [Invalidation(tuple(keys), source=source, sequence=last) for source, keys in by_source.items()]


def _sources(messages: list[Invalidation]) -> str:
    if len(messages) == 1:
        return messages[0].source or ""
    names = list(dict.fromkeys(message.source or "" for message in messages))
    more = len(names) - NAMED_SOURCES
    return ", ".join(names[:NAMED_SOURCES]) + (f" and {more} more" if more > 0 else "")


def decode(payload: bytes, prefix: str) -> Invalidation:
    """Decode one message; full keys (with `prefix:`) are accepted, too. Raises UnreadableMessage."""
    if len(payload) > MAX_MESSAGE_BYTES:
        raise UnreadableMessage(f"longer than {MAX_MESSAGE_BYTES} bytes")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise UnreadableMessage("not UTF-8") from error
    if own := _ONE_KEY.fullmatch(text):
        return Invalidation((_key(own[3], prefix),), source=own[1], sequence=int(own[2]))
    if not text.lstrip().startswith("{"):
        return Invalidation(keys=(_key(text.strip(), prefix),))
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage("neither a key nor JSON") from error
    return _from_object(message, prefix)


def sequence_of(stored: object) -> int | None:
    """Return the sequence number that L2 holds; None if it is missing or was overwritten with no number."""
    try:
        return int(stored) if isinstance(stored, bytes) else None
    except ValueError:
        return None


def _from_object(message: dict[str, object], prefix: str) -> Invalidation:
    keys, pattern, sequence = message.get("keys"), message.get("pattern"), message.get("seq")
    if message.get("v", WIRE_VERSION) != WIRE_VERSION:
        raise UnreadableMessage(f"wire version {message.get('v')!r}")
    if sequence is not None and (isinstance(sequence, bool) or not isinstance(sequence, int)):
        raise UnreadableMessage("seq is not a whole number")
    source = message.get("source")
    if source is not None and not isinstance(source, str):
        raise UnreadableMessage("source is not a string")
    if isinstance(pattern, str) and keys is None:
        began = message.get("began")
        known = began if isinstance(began, int) and not isinstance(began, bool) else None
        return Invalidation(pattern=_key(pattern, prefix), source=source, sequence=sequence, began=known)
    if isinstance(keys, list) and keys and pattern is None and len(keys) <= MAX_KEYS:
        readable = tuple(_readable(keys, prefix))
        if readable:
            return Invalidation(readable, None, source, sequence, unreadable=len(keys) - len(readable))
    raise UnreadableMessage(f'needs "keys", a list of 1 to {MAX_KEYS}, or "pattern"')


def _readable(entries: list[object], prefix: str) -> Iterator[str]:
    """Yield the readable keys of a list: one bad entry must not prevent the others' invalidation."""
    for entry in entries:
        with suppress(UnreadableMessage):
            yield _key(entry, prefix)


def _key(text: object, prefix: str) -> str:
    if not isinstance(text, str):
        raise UnreadableMessage("a key is not a string")
    key = text.removeprefix(f"{prefix}:")
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise UnreadableMessage(f"a key needs 1 to {MAX_KEY_CHARS} printable characters")
    return key
