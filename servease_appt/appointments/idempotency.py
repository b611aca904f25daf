"""Idempotency keys: one booking for one key, whatever happens to the answer.

The order for a POST with a key: `claim`; a `StoredAnswer` is sent as it is. A `Claim` with an `appointment_id`
means that an earlier holder had booked and then died: answer with that appointment, do not book. Any other claim
goes into `commands.book`, which notes the booking in its own transaction. Then `finish` with what is sent, if the
answer is final (2xx, 4xx); `release` if it is not (5xx, an exception), so that the client may try again at once.
"""

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import JSON, Connection, RowMapping, bindparam, text

from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import KeyBusy, KeyReused
from servease_appt.appointments.values import Fields, storable
from servease_appt.db.engine import Database

KEPT_FOR: Final = timedelta(hours=24)
LEASE: Final = timedelta(seconds=30)
"""How long a holder may take. One that died blocks its key for so long; one that is slower books nothing."""

MAX_KEY_LENGTH: Final = 255
FIELD: Final = "Idempotency-Key"


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


_FORGET: Final = text("""
    DELETE FROM idempotency_keys WHERE (user_id, key) IN (
        SELECT user_id, key FROM idempotency_keys WHERE expires_at <= :now
        ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED
    )
""")
_CLAIM: Final = text("""
    INSERT INTO idempotency_keys AS held (user_id, key, fingerprint, holder, leased_until, expires_at)
    VALUES (CAST(:user_id AS uuid), :key, :fingerprint, CAST(:holder AS uuid), :leased_until, :expires_at)
    ON CONFLICT (user_id, key) DO UPDATE SET
        fingerprint = excluded.fingerprint,
        holder = excluded.holder,
        leased_until = excluded.leased_until,
        expires_at = CASE WHEN held.expires_at <= :now THEN excluded.expires_at ELSE held.expires_at END,
        appointment_id = CASE WHEN held.expires_at <= :now THEN NULL ELSE held.appointment_id END,
        answer_status = NULL, answer_body = NULL, answer_headers = NULL
    WHERE held.expires_at <= :now
        OR held.answer_status IS NULL AND held.leased_until <= :now AND held.fingerprint = excluded.fingerprint
    RETURNING CAST(appointment_id AS text)
""")
_HELD: Final = text("""
    SELECT fingerprint, answer_status, answer_body, answer_headers FROM idempotency_keys
    WHERE user_id = CAST(:user_id AS uuid) AND key = :key
""")
_MINE: Final = "WHERE user_id = CAST(:user_id AS uuid) AND key = :key AND holder = CAST(:holder AS uuid)"
_NOTE: Final = text(
    f"UPDATE idempotency_keys SET appointment_id = CAST(:appointment_id AS uuid) {_MINE}"  # noqa: S608
)
_FINISH: Final = text(
    f"UPDATE idempotency_keys SET answer_status = :status, answer_body = :body, answer_headers = :headers {_MINE}"  # noqa: S608
).bindparams(bindparam("headers", type_=JSON))
_RELEASE: Final = text(f"UPDATE idempotency_keys SET leased_until = '-infinity' {_MINE}")  # noqa: S608


def claim(
    database: Database, actor: Actor, key: str, fingerprint: str, now: datetime
) -> Claim | StoredAnswer:
    """Take the key, or get the first answer.

    Args:
        key: the header's value.
        fingerprint: stands for method, path and body, e.g. a SHA-256 in hex; 64 characters at most.

    Raises:
        FieldErrors: the key (named "Idempotency-Key") is empty, longer than 255 characters or no text that can
            be stored.
        KeyReused: the key came with another fingerprint in the last 24 hours.
        KeyBusy: another request holds it.
    """
    _check_key(key)
    holder = str(uuid.uuid4())
    place = {"user_id": actor.user_id, "key": key}
    lease = {"holder": holder, "leased_until": now + LEASE, "expires_at": now + KEPT_FOR}
    with database.transaction() as connection:
        connection.execute(_FORGET, {"now": now})
        taken = connection.execute(
            _CLAIM, place | lease | {"fingerprint": fingerprint, "now": now}
        ).one_or_none()
        if taken is not None:
            return Claim(actor.user_id, key, holder, taken[0])
        held = connection.execute(_HELD, place).mappings().one_or_none()
        return _answer(held, fingerprint)


def note_booking(connection: Connection, claim: Claim, appointment_id: str) -> None:
    """Tie the key to what is booked, in the transaction of the booking. Raises `KeyBusy` if the claim was lost."""
    noted = connection.execute(_NOTE, _own(claim) | {"appointment_id": appointment_id})
    if noted.rowcount != 1:
        raise _busy()


def finish(database: Database, claim: Claim, answer: StoredAnswer) -> None:
    """Keep the answer for those who ask again. Does nothing when the claim was lost to a later holder."""
    kept = {"status": answer.status, "body": answer.body, "headers": answer.headers}
    with database.transaction() as connection:
        connection.execute(_FINISH, _own(claim) | kept)


def release(database: Database, claim: Claim) -> None:
    """Give the key back unanswered; a booking that was noted with it stays noted."""
    with database.transaction() as connection:
        connection.execute(_RELEASE, _own(claim))


def _answer(held: RowMapping | None, fingerprint: str) -> StoredAnswer:
    if held is None:
        raise _busy()
    if held["fingerprint"] != fingerprint:
        raise KeyReused(f"This {FIELD} came with another body before; use a new one for another request.")
    if held["answer_status"] is None:
        raise _busy()
    return StoredAnswer(held["answer_status"], held["answer_body"], held["answer_headers"])


def _busy() -> KeyBusy:
    return KeyBusy(f"A request with this {FIELD} is still running.", retry_after_s=1)


def _own(claim: Claim) -> dict[str, Any]:
    return {"user_id": claim.user_id, "key": claim.key, "holder": claim.token}


def _check_key(key: str) -> None:
    fields = Fields()
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not storable(key):
        fields.refuse(FIELD, f"Must have 1 to {MAX_KEY_LENGTH} characters that can be stored.")
    fields.settle()
