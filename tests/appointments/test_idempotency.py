"""One booking for one key, whatever happens to the answer."""

from datetime import timedelta

import pytest

from servease_appt.appointments import idempotency
from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import FieldErrors, KeyBusy, KeyReused
from servease_appt.appointments.idempotency import KEPT_FOR, LEASE, Claim, StoredAnswer
from tests.appointments.workshop import NOW, Workshop, customer

USER = customer()
ANSWER = StoredAnswer(201, '{"id": "ü"}', {"ETag": '"x"'})


def claim(
    workshop: Workshop,
    user: Actor = USER,
    key: str = "key",
    body: str = "body",
    after: timedelta = timedelta(0),
) -> Claim | StoredAnswer:
    return idempotency.claim(workshop.database, user, key, body, NOW + after)


def held(workshop: Workshop, user: Actor = USER, after: timedelta = timedelta(0)) -> Claim:
    taken = claim(workshop, user, after=after)
    assert isinstance(taken, Claim)
    return taken


def test_the_first_answer_again(workshop: Workshop) -> None:
    """Status, body and headers, for 24 hours; then the key is free."""
    first = held(workshop)
    idempotency.finish(workshop.database, first, ANSWER)

    assert claim(workshop) == ANSWER
    assert claim(workshop, after=KEPT_FOR - timedelta(seconds=1)) == ANSWER
    later = held(workshop, after=KEPT_FOR)
    assert (later.appointment_id, later.token != first.token) == (None, True)


def test_another_body_is_refused(workshop: Workshop) -> None:
    """While the first one runs, after it has its answer, and after its holder died."""
    first = held(workshop)

    with pytest.raises(KeyReused):
        claim(workshop, body="other")
    with pytest.raises(KeyReused):
        claim(workshop, body="other", after=2 * LEASE)
    idempotency.finish(workshop.database, first, ANSWER)
    with pytest.raises(KeyReused):
        claim(workshop, body="other")
    assert isinstance(claim(workshop, body="other", after=KEPT_FOR), Claim)


def test_one_that_still_runs(workshop: Workshop) -> None:
    """Its key is busy, and the error says when to ask again."""
    held(workshop)

    with pytest.raises(KeyBusy) as caught:
        claim(workshop)
    assert caught.value.retry_after_s == 1


def test_every_user_has_keys_of_their_own(workshop: Workshop) -> None:
    """The same key of another user is another key."""
    idempotency.finish(workshop.database, held(workshop), ANSWER)

    assert isinstance(claim(workshop, customer(), body="other"), Claim)


def test_a_holder_that_died_before_booking(workshop: Workshop) -> None:
    """Blocks its key no longer than its lease; what it does afterwards does not count."""
    dead = held(workshop)
    with pytest.raises(KeyBusy):
        claim(workshop, after=LEASE - timedelta(seconds=1))

    later = held(workshop, after=LEASE)

    assert later.appointment_id is None
    idempotency.finish(workshop.database, dead, ANSWER)
    idempotency.release(workshop.database, dead)
    with pytest.raises(KeyBusy):
        claim(workshop, after=LEASE)


def test_a_holder_that_died_after_booking(workshop: Workshop) -> None:
    """The one after it learns what was booked, and so does every later one until there is an answer."""
    booked = workshop.book(USER, claim=held(workshop))

    later = held(workshop, after=LEASE)
    assert later.appointment_id == booked.id
    assert held(workshop, after=2 * LEASE).appointment_id == booked.id


def test_giving_the_key_back(workshop: Workshop) -> None:
    """The same request may try again at once."""
    first = held(workshop)
    idempotency.release(workshop.database, first)
    second = held(workshop)
    booked = workshop.book(USER, claim=second)
    idempotency.release(workshop.database, second)

    assert held(workshop).appointment_id == booked.id


@pytest.mark.parametrize("key", ["", "k" * 256, "a\0b", "\ud800"])
def test_a_key_that_cannot_be_kept(workshop: Workshop, key: str) -> None:
    """Is refused with the header's name; 255 characters of any text can."""
    with pytest.raises(FieldErrors) as caught:
        claim(workshop, key=key)

    assert list(caught.value.errors) == ["Idempotency-Key"]
    assert isinstance(claim(workshop, key="ü" * 255), Claim)


def test_what_is_over_is_forgotten(workshop: Workshop) -> None:
    """Each claim sweeps out some of the keys that are older than a day."""
    for number in range(5):
        idempotency.finish(workshop.database, held(workshop, customer(), timedelta(minutes=number)), ANSWER)

    claim(workshop, after=KEPT_FOR + timedelta(minutes=3))

    assert workshop.sql("SELECT count(*) FROM idempotency_keys") == [(2,)]
