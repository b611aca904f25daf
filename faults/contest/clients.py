"""The clients of a contested run: each asks for what the others ask for at that moment."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import jwt

from faults.contest.answers import Kind, Request
from faults.dataset import EMPLOYEES, ROWS
from faults.http_client import Answer, Slot
from faults.testbed import SECRET, Testbed

DAYS = tuple(datetime.now(UTC).date() + timedelta(days=2 + n) for n in range(2))
_STARTS = tuple(f"{hour:02}:{minute:02}" for hour in range(9, 13) for minute in range(0, 60, 10))
_DURATIONS = (30, 60, 90)
_HOT_S = 0.25
"""For so long all clients prefer the same day, time, customer and appointment."""
_CUT = 0.03
_BOOKINGS, _BY_CUSTOMER, _WITH_EMPLOYEE, _RETRIES = 0.45, 0.3, 0.7, 0.1
SETTLE_LIMIT_S = 45.0
"""Longer than a key is held by a worker that was killed."""
_SETTLE_PAUSE_S = 0.2
_ACTIONS = ("confirm", "confirm", "start", "complete", "no_show", "cancel", "cancel", "cancel")
_KNOWN = 60


class Desk:
    """What all clients of a run share. Thread-safe."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.stopping = threading.Event()
        self.requests: list[Request] = []
        self.cuts = 0
        self._lock = threading.Lock()
        self._numbers = 0
        self._known: list[str] = []

    def number(self) -> int:
        """Return a number for each request."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def note(self, request: Request) -> None:
        """Keep what a request was answered."""
        with self._lock:
            self.requests.append(request)
            self._known = [*self._known, *request.ids][-_KNOWN:]

    def cut(self) -> None:
        """Count a connection that a client has cut."""
        with self._lock:
            self.cuts += 1

    def pick(self) -> str | None:
        """Return an appointment, often the one that other clients get at this moment."""
        known = self._known
        return known[_hot(len(known))] if known else None


def _hot(choices: int) -> int:
    """Return the number of a choice, more often than not the same for all clients."""
    if random.random() < 0.4:
        return random.randrange(choices)
    return int(time.monotonic() / _HOT_S) * 7 % choices


@dataclass(slots=True)
class _Booking:
    """A booking with its key, and its last answer; `customer` books for themselves, None: staff does."""

    number: int
    body: dict[str, Any]
    customer: str | None
    status: int = 0
    ids: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Return whether the last answer is certain. A busy key is refused while another request goes on."""
        return self.status not in (0, 409, 429, 503)

    def note(self, answer: Answer) -> None:
        """Keep an answer."""
        self.status = answer.status
        if answer.status == 201:
            self.ids = (json.loads(answer.body)["id"],)

    def request(self) -> Request:
        """Return what the verdict needs. What is not settled may have been carried out."""
        status = self.status if self.settled else 0
        return Request(Kind.BOOK, self.body["service_description"], status, self.ids)


class Client:
    """One client with one connection. For one thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._dataset = desk.testbed.dataset
        self._user = str(uuid.uuid4())
        self._slot = self._new_slot(self._user, "admin")
        self._unsettled: list[_Booking] = []

    def run(self) -> None:
        """Ask until the run ends, then until every booking has a certain answer."""
        while not self._desk.stopping.is_set():
            appointment = self._desk.pick()
            if self._unsettled and random.random() < _RETRIES:
                self._try(self._unsettled.pop(0))
            elif appointment is None or random.random() < _BOOKINGS:
                self._try(self._new_booking())
            else:
                random.choices(
                    (self._act, self._reschedule, self._edit, self._assign, self._delete), (8, 2, 2, 3, 1)
                )[0](appointment)
        limit_s = time.monotonic() + SETTLE_LIMIT_S
        while self._unsettled and time.monotonic() < limit_s:
            self._try(self._unsettled.pop(0))
            time.sleep(_SETTLE_PAUSE_S)
        for booking in self._unsettled:
            self._desk.note(booking.request())
        self._slot.close()

    def _new_slot(self, user: str, role: str) -> Slot:
        claims = {"user_id": user, "user_role": role, "exp": int(time.time()) + 36_000}
        return Slot(
            self._desk.testbed.gunicorn.port, jwt.encode(claims, SECRET, algorithm="HS256"), resend=False
        )

    def _new_booking(self) -> _Booking:
        number, row = self._desk.number(), _hot(ROWS)
        customer = self._dataset.ids[f"c{row:03}"]
        body = {
            "customer_id": customer,
            "vehicle_id": self._dataset.ids[f"v{row:03}"],
            "appointment_type": "inspection",
            **_when("scheduled_date", "scheduled_time"),
            "duration_minutes": random.choice(_DURATIONS),
            "service_description": f"booking {number}",
        }
        by_customer = random.random() < _BY_CUSTOMER
        if not by_customer and random.random() < _WITH_EMPLOYEE:
            body["assigned_employee_id"] = self._employee()
        return _Booking(number, body, customer if by_customer else None)

    def _try(self, booking: _Booking) -> None:
        """Send a booking, and keep it for later while its answer is not certain."""
        slot = self._slot if booking.customer is None else self._new_slot(booking.customer, "customer")
        headers = {"Idempotency-Key": f"key {booking.number}"}
        booking.note(self._ask("POST", "/appointments/", booking.body, headers, slot))
        if slot is not self._slot:
            slot.close()
        if booking.settled:
            self._desk.note(booking.request())
        else:
            self._unsettled.append(booking)

    def _act(self, appointment: str) -> None:
        text = f"request {self._desk.number()}"
        path = f"/appointments/{appointment}/{random.choice(_ACTIONS)}/"
        self._note(Kind.ACT, text, self._ask("POST", path, {"reason": text}).status)

    def _reschedule(self, appointment: str) -> None:
        text = f"request {self._desk.number()}"
        body = {**_when("new_date", "new_time"), "reason": text}
        answer = self._ask("POST", f"/appointments/{appointment}/reschedule/", body)
        self._note(Kind.RESCHEDULE, text, answer.status)

    def _edit(self, appointment: str) -> None:
        """Change notes and length, if nobody else has changed the appointment since it was read."""
        text, path = f"request {self._desk.number()}", f"/appointments/{appointment}/"
        etag = self._ask("GET", path).headers.get("etag")
        if etag is None:
            return
        body = {"customer_notes": text, "duration_minutes": random.choice(_DURATIONS)}
        answer = self._ask("PATCH", path, body, {"If-Match": etag})
        request = Request(Kind.EDIT, text, answer.status, version=(appointment, etag))
        self._desk.note(request)

    def _assign(self, appointment: str) -> None:
        path = f"/appointments/{appointment}/assign/"
        self._note(Kind.ASSIGN, "", self._ask("POST", path, {"employee_id": self._employee()}).status)

    def _delete(self, appointment: str) -> None:
        self._note(Kind.DELETE, "", self._ask("DELETE", f"/appointments/{appointment}/").status)

    def _employee(self) -> str:
        return self._dataset.ids[f"e{_hot(EMPLOYEES):03}"]

    def _note(self, kind: Kind, text: str, status: int) -> None:
        self._desk.note(Request(kind, text, status))

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        slot: Slot | None = None,
    ) -> Answer:
        """Send a request and wait for its answer, or now and then cut the connection instead."""
        slot = slot or self._slot
        payload = json.dumps(body).encode() if body is not None else b""
        if random.random() >= _CUT:
            return slot.ask(method, path, payload, headers)
        failed = slot.start(method, path, payload, headers)
        if failed is not None:
            return failed
        time.sleep(random.uniform(0, 0.02))
        self._desk.cut()
        return slot.give_up()


def _when(date_name: str, time_name: str) -> dict[str, str]:
    day: date = DAYS[_hot(len(DAYS))]
    return {date_name: day.isoformat(), time_name: _STARTS[_hot(len(_STARTS))]}
