"""List, book, reschedule and cancel with a generated client, then read an error by its type.

It runs in the environment of `make api-tools`, where nothing of the service is installed.
"""

import json
import sys
from datetime import date
from uuid import UUID

from servease_client import AuthenticatedClient, Client
from servease_client.api.appointment_actions import cancel_appointment, reschedule_appointment
from servease_client.api.appointments import book_appointment, get_appointment, list_appointments
from servease_client.models import (
    Action,
    AppointmentCreate,
    AppointmentDetail,
    AppointmentPage,
    AppointmentStatus,
    AppointmentType,
    Error,
    FieldOrRuleErrors,
    Reason,
    Reschedule,
)


def round_trip(base_url: str, token: str, customer: str, vehicle: str, day: str) -> dict[str, object]:
    """Return what was seen in each step."""
    with AuthenticatedClient(base_url=base_url, token=token) as client:
        page = list_appointments.sync(client=client, page_size=5, status=[AppointmentStatus.PENDING])
        assert isinstance(page, AppointmentPage), page
        booking = AppointmentCreate(
            customer_id=UUID(customer),
            vehicle_id=UUID(vehicle),
            appointment_type=AppointmentType.MAINTENANCE,
            scheduled_date=date.fromisoformat(day),
            scheduled_time="10:00",
        )
        booked = book_appointment.sync_detailed(client=client, body=booking)
        appointment = booked.parsed
        assert isinstance(appointment, AppointmentDetail), appointment
        reschedule = Reschedule(new_date=date.fromisoformat(day), new_time="14:00")
        moved = reschedule_appointment.sync(appointment.id, client=client, body=reschedule)
        assert isinstance(moved, Action), moved
        cancelled = cancel_appointment.sync(
            appointment.id, client=client, body=Reason(reason="No longer needed")
        )
        assert isinstance(cancelled, Action), cancelled
        again = cancel_appointment.sync_detailed(appointment.id, client=client, body=Reason())
        assert isinstance(again.parsed, FieldOrRuleErrors), again
    with Client(base_url=base_url) as nobody:
        # The generated signature wants a client with a token; leaving it out is what is tried here.
        refused = get_appointment.sync_detailed(appointment.id, client=nobody)
        assert isinstance(refused.parsed, Error), refused
    return {
        "listed": len(page.results),
        "booked": appointment.customer_name,
        "etag": "ETag" in booked.headers,
        "moved_to": moved.appointment.scheduled_time,
        "cancelled": cancelled.status.value,
        "twice": [again.status_code, again.parsed.to_dict()],
        "without_token": [refused.status_code, refused.parsed.detail],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(round_trip(*sys.argv[1:])))
