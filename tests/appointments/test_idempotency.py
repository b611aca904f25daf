"""One booking for one key, whatever happens to the answer."""

from dataclasses import replace
from datetime import time, timedelta

import pytest

from servease_appt.appointments import idempotency
from servease_appt.appointments.actors import Actor, Role
from servease_appt.appointments.errors import FieldErrors, KeyBusy, KeyReused, RuleBroken
from servease_appt.appointments.idempotency import KEPT_FOR, LEASE, Claim, KeptAnswer, RequestKey
from servease_appt.appointments.records import Appointment
from tests.appointments.workshop import NOW, Workshop, customer, new_id

USER = customer()
REQUEST = RequestKey("key", b"body")
OTHER_BODY = RequestKey("key", b"other body")
ANSWER = KeptAnswer('{"id": "ü"}', {"ETag": '"x"'})


class Died(BaseException):
    """The holder of a key is gone."""


def die(_appointment: Appointment) -> KeptAnswer:
    raise Died


def claim(
    workshop: Workshop,
    user: Actor = USER,
    request: RequestKey = REQUEST,
    after: timedelta = timedelta(0),
) -> Claim | KeptAnswer:
    return idempotency.claim(workshop.database, user, request, NOW + after)


def held(workshop: Workshop, user: Actor = USER, after: timedelta = timedelta(0)) -> Claim:
    taken = claim(workshop, user, after=after)
    assert isinstance(taken, Claim)
    return taken


def answered(workshop: Workshop, claim: Claim) -> None:
    """Note a booking for the claim and keep its answer."""
    appointment_id = new_id()
    with workshop.database.transaction() as connection:
        idempotency.note_booking(connection, claim, appointment_id)
    assert idempotency.keep_answer(workshop.database, claim, appointment_id, ANSWER) == ANSWER


def keys(workshop: Workshop) -> int:
    (found,) = workshop.sql("SELECT count(*) FROM idempotency_keys")
    return int(found[0])


def test_the_first_answer_again(workshop: Workshop) -> None:
    """Body and headers, for 24 hours; then the key is free."""
    first = held(workshop)
    answered(workshop, first)

    assert claim(workshop) == ANSWER
    assert claim(workshop, after=KEPT_FOR - timedelta(seconds=1)) == ANSWER
    later = held(workshop, after=KEPT_FOR)
    assert (later.appointment_id, later.token != first.token) == (None, True)


def test_booking_with_a_key(workshop: Workshop) -> None:
    """The second request gets the first answer, although nothing that it is made of is the same any more."""
    first = workshop.book_once(USER, REQUEST)

    assert workshop.book_once(USER, REQUEST, now=NOW + timedelta(hours=23)) == first
    assert workshop.sql("SELECT count(*) FROM appointments") == [(1,)]


def test_another_body_is_refused(workshop: Workshop) -> None:
    """While the first one runs, after it has its answer, and after its holder died."""
    first = held(workshop)

    with pytest.raises(KeyReused):
        claim(workshop, request=OTHER_BODY)
    with pytest.raises(KeyReused):
        claim(workshop, request=OTHER_BODY, after=2 * LEASE)
    answered(workshop, first)
    with pytest.raises(KeyReused):
        claim(workshop, request=OTHER_BODY)
    assert isinstance(claim(workshop, request=OTHER_BODY, after=KEPT_FOR), Claim)


def test_another_role_of_the_same_user_is_refused(workshop: Workshop) -> None:
    """An answer for staff has what a customer may not see: it is never given to a token of another role."""
    staff = Actor(USER.user_id, Role.ADMIN)
    answered(workshop, held(workshop, staff))

    with pytest.raises(KeyReused):
        claim(workshop, USER)
    with pytest.raises(KeyReused):
        claim(workshop, replace(staff, role=Role.EMPLOYEE))
    assert claim(workshop, staff) == ANSWER


def test_one_that_still_runs(workshop: Workshop) -> None:
    """Its key is busy, and the error says when to ask again."""
    held(workshop)

    with pytest.raises(KeyBusy) as caught:
        claim(workshop)
    assert caught.value.retry_after_s == 1


def test_every_user_has_keys_of_their_own(workshop: Workshop) -> None:
    """The same key of another user is another key."""
    answered(workshop, held(workshop))

    assert isinstance(claim(workshop, customer(), OTHER_BODY), Claim)


def test_a_holder_that_died_before_booking(workshop: Workshop) -> None:
    """Blocks its key no longer than its lease; what it does afterwards does not count."""
    dead = held(workshop)
    with pytest.raises(KeyBusy):
        claim(workshop, after=LEASE - timedelta(seconds=1))

    later = held(workshop, after=LEASE)

    assert later.appointment_id is None
    idempotency.release(workshop.database, dead)
    with pytest.raises(KeyBusy):
        claim(workshop, after=LEASE)
    with workshop.database.transaction() as connection, pytest.raises(KeyBusy):
        idempotency.note_booking(connection, dead, new_id())


def test_a_holder_that_died_after_booking(workshop: Workshop) -> None:
    """What it has booked is answered at once, not only when its lease is over, and is not booked again."""
    with pytest.raises(Died):
        workshop.book_once(USER, REQUEST, render=die)

    answer = workshop.book_once(USER, REQUEST)

    ((booked,),) = workshop.sql("SELECT id::text FROM appointments")
    assert answer.body.startswith(booked)
    assert workshop.book_once(USER, REQUEST, now=NOW + 2 * LEASE) == answer


def test_the_lease_of_a_dead_holder_may_be_over_too(workshop: Workshop) -> None:
    """The next request takes the key over, and still learns what was booked."""
    booked = workshop.book(USER, claim=held(workshop))

    assert held(workshop, after=LEASE).appointment_id == booked.id
    assert held(workshop, after=2 * LEASE).appointment_id == booked.id


def test_two_that_answer_at_once_give_the_same_answer(workshop: Workshop) -> None:
    """The one kept first: a holder that was slow to answer gives what the later request has given."""
    slow = held(workshop)
    booked = workshop.book(USER, claim=slow)

    other = workshop.book_once(USER, REQUEST)

    assert idempotency.keep_answer(workshop.database, slow, booked.id, ANSWER) == other


def test_a_refused_request_leaves_no_key(workshop: Workshop) -> None:
    """The same request may try again at once, is judged anew, and the key is free for another body."""
    workshop.policy = replace(workshop.policy, default_capacity=0)
    with pytest.raises(RuleBroken):
        workshop.book_once(USER, REQUEST)
    assert keys(workshop) == 0

    workshop.policy = replace(workshop.policy, default_capacity=1)
    assert workshop.book_once(USER, OTHER_BODY).body


def test_giving_the_key_back_after_a_booking(workshop: Workshop) -> None:
    """It stays: the booking is made."""
    first = held(workshop)
    booked = workshop.book(USER, claim=first)
    idempotency.release(workshop.database, first)

    assert held(workshop).appointment_id == booked.id


def test_a_refusal_that_an_older_version_kept(workshop: Workshop) -> None:
    """Is no answer any more: the request is judged anew."""
    held(workshop)
    workshop.sql("UPDATE idempotency_keys SET answer_status = 400, answer_body = '{}', answer_headers = '{}'")

    assert held(workshop, after=LEASE).appointment_id is None


@pytest.mark.parametrize("key", ["", "k" * 256, "a\0b", "\ud800"])
def test_a_key_that_cannot_be_kept(workshop: Workshop, key: str) -> None:
    """Is refused with the header's name; 255 characters of any text can."""
    with pytest.raises(FieldErrors) as caught:
        claim(workshop, request=RequestKey(key, b"body"))

    assert list(caught.value.errors) == ["Idempotency-Key"]
    assert isinstance(claim(workshop, request=RequestKey("ü" * 255, b"body")), Claim)


def test_what_is_over_is_forgotten(workshop: Workshop) -> None:
    """Each claim sweeps out some of the keys that are older than a day."""
    for number in range(5):
        answered(workshop, held(workshop, customer(), timedelta(minutes=number)))

    claim(workshop, after=KEPT_FOR + timedelta(minutes=3))

    assert keys(workshop) == 2


def test_a_user_has_so_many_keys(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first, and only the user's own."""
    monkeypatch.setattr(idempotency, "MAX_KEYS_OF_A_USER", 3)
    answered(workshop, held(workshop, customer()))

    for number in range(5):
        request = RequestKey(str(number), b"body")
        workshop.book_once(USER, request, at=time(9 + number), now=NOW + timedelta(minutes=number))

    rows = workshop.sql("SELECT key FROM idempotency_keys WHERE user_id = :user", user=USER.user_id)
    assert sorted(key for (key,) in rows) == ["2", "3", "4"]
    assert keys(workshop) == 4
