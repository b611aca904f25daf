"""The words for statuses and types, as fields. The OpenAPI document names each set of words once."""

from typing import Any

from servease_appt.api.schemas.fields import Choice, CommaSeparatedChoices
from servease_appt.scheduling.statuses import AppointmentType, Status

STATUSES = [status.value for status in Status]
APPOINTMENT_TYPES = [kind.value for kind in AppointmentType]
_STATUS = "AppointmentStatus"


def status_field(**kwargs: Any) -> Choice:
    """Return a field for a status; the arguments are those of `Choice`."""
    return Choice(STATUSES, component=_STATUS, **kwargs)


def statuses_field(**kwargs: Any) -> CommaSeparatedChoices:
    """Return a query field for one status or several; the arguments are those of `CommaSeparatedChoices`."""
    return CommaSeparatedChoices(STATUSES, component=_STATUS, **kwargs)


def type_field(**kwargs: Any) -> Choice:
    """Return a field for a type; the arguments are those of `Choice`."""
    return Choice(APPOINTMENT_TYPES, component="AppointmentType", **kwargs)
