"""The reference checks of a booking, made in the caller's name."""

from servease_appt.api.context import container
from servease_appt.api.tokens import Caller
from servease_appt.appointments.reference_checks import ReferenceChecks


def checks_for(caller: Caller) -> ReferenceChecks:
    """Return the checks that ask the services with the caller's token."""
    parts = container()
    return ReferenceChecks(
        services=parts.lookups.source,
        auth_token=caller.token,
        timeout_s=parts.settings.upstream_timeout_s,
        on_unchecked=parts.metrics.unchecked_booking,
    )
