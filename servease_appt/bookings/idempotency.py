"""Idempotency keys: one booking for one key, whatever happens to the answer.

The order for a POST with a key: `claim`; a `StoredAnswer` is sent as it is. A `Claim` with an `appointment_id`
means that an earlier holder had booked and then died: answer with that appointment, do not book. Any other claim
goes into `commands.book`, which notes the booking in its own transaction. Then `finish` with what is sent, if the
answer is final (2xx, 4xx); `release` if it is not (5xx, an exception), so that the client may try again at once.
"""

from dataclasses import dataclass, field
from datetime import datetime

from servease_appt.bookings.actors import Actor
from servease_appt.db.engine import Database


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The first answer: its status, its body as sent, and the headers that belong to it."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to answer for this key, until its lease runs out.

    Attributes:
        token: tells this holder from a later one.
        appointment_id: what an earlier holder booked before it died, else None.
    """

    user_id: str
    key: str
    token: str
    appointment_id: str | None


def claim(
    database: Database, actor: Actor, key: str, fingerprint: str, now: datetime
) -> Claim | StoredAnswer:
    """Take the key, or get the first answer.

    Args:
        key: the header's value.
        fingerprint: stands for method, path and body, e.g. a SHA-256 in hex.

    Raises:
        FieldErrors: the key (named "Idempotency-Key") is empty, longer than 255 characters or no text that can
            be stored.
        KeyReused: the key came with another fingerprint in the last 24 hours.
        KeyBusy: another request holds it.
    """
    raise NotImplementedError


def finish(database: Database, claim: Claim, answer: StoredAnswer) -> None:
    """Keep the answer for those who ask again. Does nothing when the claim was lost to a later holder."""
    raise NotImplementedError


def release(database: Database, claim: Claim) -> None:
    """Give the key back unanswered; a booking that was noted with it stays noted."""
    raise NotImplementedError
