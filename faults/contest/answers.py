"""What clients were answered, held against what was committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from faults.contest.audit import Change

DOCUMENTED = frozenset({200, 201, 204, 400, 404, 409, 412, 429, 503})
"""Statuses that the API documents for these requests; a worker that is killed gives no answer at all."""


class Kind(StrEnum):
    """What a request asks for."""

    BOOK = "book"
    ACT = "act"
    RESCHEDULE = "reschedule"
    EDIT = "edit"
    ASSIGN = "assign"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; a booking's are all requests with one key.

    Attributes:
        text: what the request leaves in the tables if it was accepted: a description, a reason, or notes.
        status: of its certain answer; 0 where there was none.
        ids: the appointments that the answer to a booking named.
        version: for an edit, the appointment and the entity tag that it was to change.
    """

    kind: Kind
    text: str
    status: int
    ids: tuple[str, ...] = ()
    version: tuple[str, str] = ("", "")

    @property
    def accepted(self) -> bool:
        """Return whether it was answered with success."""
        return 200 <= self.status < 300

    @property
    def refused(self) -> bool:
        """Return whether it certainly has no effect: 503, and no answer, leave that open."""
        return 400 <= self.status < 500


def broken_answers(
    requests: Iterable[Request], changes: Iterable[Change], reasons: Iterable[str]
) -> Iterator[str]:
    """Yield each answer that is not true, by the name of what is wrong with it.

    Args:
        changes: the log of committed changes.
        reasons: of all rows of the service's history.
    """
    booked = [c.after for c in changes if c.before is None and c.after is not None]
    ids: dict[str, list[str]] = {}
    for row in booked:
        ids.setdefault(row["service_description"], []).append(row["id"])
    # A reschedule's reason follows on the old and the new time.
    noted = Counter(reason.rpartition(": ")[2] for reason in reasons)
    edited = Counter(
        c.after["customer_notes"]
        for c in changes
        if c.before is not None
        and c.after is not None
        and c.before["customer_notes"] != c.after["customer_notes"]
    )
    versions: Counter[tuple[str, str]] = Counter()
    for request in requests:
        yield from _undocumented(request)
        match request.kind:
            case Kind.BOOK:
                yield from _broken_booking(request, ids.get(request.text, []))
            case Kind.ACT | Kind.RESCHEDULE:
                # A reschedule to the same time is accepted and changes nothing.
                least = int(request.kind is Kind.ACT)
                yield from _broken_change(request, noted[request.text], least)
            case Kind.EDIT:
                yield from _broken_change(request, edited[request.text], 1)
                versions[request.version] += request.accepted
    yield from (f"lost update: {count} edits of one version" for count in versions.values() if count > 1)


def _undocumented(request: Request) -> Iterator[str]:
    if request.status and request.status not in DOCUMENTED:
        yield f"undocumented answer: {request.status} to {request.kind}"


def _broken_booking(request: Request, ids: list[str]) -> Iterator[str]:
    if len(ids) > 1:
        yield f"booked twice: {request.text}"
    if request.accepted and (not ids or list(request.ids) != ids):
        yield f"booking lost: {request.text} was answered with {request.ids}, booked is {ids}"
    if request.refused and ids:
        yield f"refused and booked: {request.text}"


def _broken_change(request: Request, times: int, least: int) -> Iterator[str]:
    if times > 1:
        yield f"carried out {times} times: {request.kind} {request.text}"
    if request.accepted and times < least:
        yield f"accepted and lost: {request.kind} {request.text}"
    if request.refused and times:
        yield f"refused and carried out: {request.kind} {request.text}"
