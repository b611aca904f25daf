"""Idempotency keys: one booking for one key, whatever happens to its answer.

`claim` a key before booking. A `KeptAnswer` is the first answer, to be given again. A `Claim` whose
`appointment_id` is set means that the key has booked already, but that no answer was kept: answer with that
appointment and do not book. With any other claim, book and call `note_booking` in the same transaction;
`release` the claim if nothing was booked. Then `keep_answer`.

Only bookings are kept: a refused request leaves no row, and is checked again when it comes again.
"""

import hashlib
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import JSON, Connection, bindparam, text

from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import KeyBusy, KeyReused
from servease_appt.appointments.limits import FieldChecks
from servease_appt.db.engine import Database

KEPT_FOR: Final = timedelta(hours=24)
LEASE: Final = timedelta(seconds=30)
"""How long a claim lasts. A holder that died blocks its key for so long; one that is slower books nothing."""

MAX_KEY_LENGTH: Final = 255
MAX_KEYS_OF_A_USER: Final = 1000
"""How many keys are kept for one user; the oldest go first."""
FIELD: Final = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A key as the client sent it, with the request that it stands for.

    Attributes:
        key: 1 to 255 characters.
        body: the request's body, byte for byte.
    """

    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer to a booking: its body, and the headers that belong to it."""

    body: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to book under a key, until its lease runs out.

    Attributes:
        token: tells this holder from a later one.
        appointment_id: what was booked under this key already, else None.
    """

    user_id: str
    key: str
    token: str
    appointment_id: str | None


# 201 marks an answer that is kept; rows with another status are of a version that kept refusals, too.
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
        OR held.answer_status IS DISTINCT FROM 201 AND held.leased_until <= :now
            AND held.fingerprint = excluded.fingerprint
    RETURNING CAST(appointment_id AS text)
""")
_HELD: Final = text("""
    SELECT fingerprint, CAST(appointment_id AS text), answer_status, answer_body, answer_headers
    FROM idempotency_keys WHERE user_id = CAST(:user_id AS uuid) AND key = :key
""")
_NOTE: Final = text("""
    UPDATE idempotency_keys SET appointment_id = CAST(:appointment_id AS uuid)
    WHERE user_id = CAST(:user_id AS uuid) AND key = :key AND holder = CAST(:holder AS uuid)
""")
_KEEP: Final = text("""
    UPDATE idempotency_keys SET
        answer_body = CASE answer_status WHEN 201 THEN answer_body ELSE :body END,
        answer_headers = CASE answer_status WHEN 201 THEN answer_headers ELSE :headers END,
        answer_status = 201
    WHERE user_id = CAST(:user_id AS uuid) AND key = :key AND appointment_id = CAST(:appointment_id AS uuid)
    RETURNING answer_body, answer_headers
""").bindparams(bindparam("headers", type_=JSON))
_FORGET_OLDEST: Final = text("""
    DELETE FROM idempotency_keys WHERE user_id = CAST(:user_id AS uuid) AND key IN (
        SELECT key FROM idempotency_keys WHERE user_id = CAST(:user_id AS uuid)
        ORDER BY expires_at DESC OFFSET :most FOR UPDATE SKIP LOCKED
    )
""")
_RELEASE: Final = text("""
    DELETE FROM idempotency_keys
    WHERE user_id = CAST(:user_id AS uuid) AND key = :key AND holder = CAST(:holder AS uuid)
        AND appointment_id IS NULL
""")


def claim(database: Database, actor: Actor, request: RequestKey, now: datetime) -> Claim | KeptAnswer:
    """Take the key for `actor`, or return the answer that is kept for it.

    Raises:
        FieldErrors: the key (named "Idempotency-Key") is empty, longer than 255 characters or can't be stored.
        KeyReused: the key came with another body, or from another role of the user, in the last 24 hours.
        KeyBusy: another request holds it and has not booked yet.
    """
    _check_key(request.key)
    holder, fingerprint = str(uuid.uuid4()), _fingerprint(actor, request.body)
    place = {"user_id": actor.user_id, "key": request.key}
    lease = {"holder": holder, "leased_until": now + LEASE, "expires_at": now + KEPT_FOR}
    with database.transaction() as connection:
        connection.execute(_FORGET, {"now": now})
        taken = connection.execute(
            _CLAIM, place | lease | {"fingerprint": fingerprint, "now": now}
        ).one_or_none()
        if taken is not None:
            return Claim(**place, token=holder, appointment_id=taken[0])
        held = connection.execute(_HELD, place).mappings().one_or_none()
    if held is None:
        raise _busy()
    if held["fingerprint"] != fingerprint:
        raise KeyReused(f"This {FIELD} came with another body before; use a new one for another request.")
    if held["answer_status"] == 201:
        return KeptAnswer(held["answer_body"], held["answer_headers"])
    if held["appointment_id"] is None:
        raise _busy()
    return Claim(**place, token=holder, appointment_id=held["appointment_id"])


def note_booking(connection: Connection, claim: Claim, appointment_id: str) -> None:
    """Tie the key to what is booked, in the transaction of the booking. Raise `KeyBusy` if the claim was lost."""
    noted = connection.execute(_NOTE, _own(claim) | {"appointment_id": appointment_id})
    if noted.rowcount != 1:
        raise _busy()


def keep_answer(database: Database, claim: Claim, appointment_id: str, answer: KeptAnswer) -> KeptAnswer:
    """Keep the answer to a booking for 24 hours, and return the one to give.

    That is the one that was kept first where two requests answer at the same time, so that both get the same.
    """
    values = {"appointment_id": appointment_id, "body": answer.body, "headers": answer.headers}
    with database.transaction() as connection:
        first = connection.execute(_KEEP, _own(claim) | values).one_or_none()
        connection.execute(_FORGET_OLDEST, {"user_id": claim.user_id, "most": MAX_KEYS_OF_A_USER})
    return answer if first is None else KeptAnswer(*first)


def release(database: Database, claim: Claim) -> None:
    """Give the key back, so that the same request may try again at once. Keep it if it has booked."""
    with database.transaction() as connection:
        connection.execute(_RELEASE, _own(claim))


def _fingerprint(actor: Actor, body: bytes) -> str:
    """Return what stands for the request. Another role of the same user may see more, or less, in the answer."""
    return hashlib.sha256(b"\n".join((actor.role.value.encode(), body))).hexdigest()


def _busy() -> KeyBusy:
    return KeyBusy(f"A request with this {FIELD} is still running.", retry_after_s=1)


def _own(claim: Claim) -> dict[str, Any]:
    return {"user_id": claim.user_id, "key": claim.key, "holder": claim.token}


def _check_key(key: str) -> None:
    checks = FieldChecks()
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not _storable(key):
        checks.refuse(FIELD, f"Must have 1 to {MAX_KEY_LENGTH} characters that can be stored.")
    checks.raise_if_invalid()


def _storable(text: str) -> bool:
    """Return whether PostgreSQL can hold `text`: it takes neither NUL nor half of a surrogate pair."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
