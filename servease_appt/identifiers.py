"""The one spelling of an id: a lower-case UUID with dashes.

Ids become parts of Redis keys, of upstream URLs and of SQL, so nothing else is let in: `quote()` leaves `..`
alone and HTTP libraries collapse it, hence only a parsed UUID is safe in a path.
"""

import re

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


def canonical_uuid(text: object) -> str | None:
    """Return `text` as a lower-case dashed UUID, or None where it is not a dashed UUID in either case."""
    if not isinstance(text, str):
        return None
    lowered = text.lower()
    return lowered if _UUID.fullmatch(lowered) else None
