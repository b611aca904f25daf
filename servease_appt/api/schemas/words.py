"""The words for statuses and types, as fields. The OpenAPI document names each set of words once."""

from typing import Any

from servease_appt.api.schemas.fields import Choice
from servease_appt.scheduling.statuses import AppointmentType, Status

STATUSES = [status.value for status in Status]
APPOINTMENT_TYPES = [kind.value for kind in AppointmentType]


def status_field(**kwargs: Any) -> Choice:
    """Return a field for a status; the arguments are those of `Choice`."""
    return Choice(STATUSES, component="AppointmentStatus", **kwargs)


def type_field(**kwargs: Any) -> Choice:
    """Return a field for a type; the arguments are those of `Choice`."""
    return Choice(APPOINTMENT_TYPES, component="AppointmentType", **kwargs)
